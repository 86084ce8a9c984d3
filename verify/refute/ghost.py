"""Keep ghost state in plain ints: a second implementation of the rules of verify.arm64.cache and .system.

The proof has these rules over terms; a run has them here. Neither is derived from the
other, so a run that contradicts a proof shows an error in one of them.
"""

from __future__ import annotations

from collections.abc import Collection

CLEAN, PENDING, DIRTY, LOST = range(4)
LINE_STATES = ("clean", "maintained, not completed by a DSB", "dirty", "lost")

ICACHE_INVALID, ICACHE_PENDING, ICACHE_STALE, ICACHE_COMPLETE = range(4)
ICACHE_STATES = (
    "invalid",
    "invalidation not completed by a DSB",
    "maybe stale",
    "invalidation completed by a DSB, no ISB since",
)

SETTLED, WRITTEN, SYNCED, INVALIDATING, INVALIDATED = range(5)
TRANSLATION_STATES = (
    "not written",
    "written, no ISB yet",
    "in effect, TLB not invalidated",
    "TLB invalidation not completed by a DSB",
    "TLB invalidated",
)

REGIME = ("sctlr_el1", "ttbr0_el1", "ttbr1_el1", "tcr_el1")
"""The registers of the translation regime."""
HINTS = frozenset({"Hint_Prefetch", "Yield", "SendEvent", "SendEventLocally", "ClearExclusiveLocal"})

SCTLR_M, SCTLR_C = 1 << 0, 1 << 2
WORD = 8


class Ghost:
    """The ghost state of one run.

    :param line_size: bytes of the smallest data-cache line.
    :param dirty: addresses of pages whose lines are dirty (or stale) at entry.
    :param page_size: bytes.
    """

    def __init__(self, line_size: int, dirty: Collection[int], page_size: int):
        self.line_size = line_size
        self.granule = min(WORD, line_size)  # what has a state of its own; a line may be half a word
        self.dirty = frozenset(dirty)
        self.page_mask = ~(page_size - 1)
        self.lines: dict[int, int] = {}
        self.pending: set[int] = set()
        # Nothing is known at entry, so the worst state is assumed.
        self.unsynced = 1
        self.awaiting = set(REGIME)  # registers whose change awaits an ISB
        self.unfinished = 1
        self.icache = ICACHE_STALE
        self.translation = SETTLED

    @property
    def sctlr_unsynced(self) -> int:
        """A change of SCTLR_EL1 awaits an ISB."""
        return int("sctlr_el1" in self.awaiting)

    @property
    def ttbr0_unsynced(self) -> int:
        """A change of TTBR0_EL1 awaits an ISB."""
        return int("ttbr0_el1" in self.awaiting)

    @property
    def ttbr1_unsynced(self) -> int:
        """A change of TTBR1_EL1 awaits an ISB."""
        return int("ttbr1_el1" in self.awaiting)

    @property
    def tcr_unsynced(self) -> int:
        """A change of TCR_EL1 awaits an ISB."""
        return int("tcr_el1" in self.awaiting)

    def synchronize(self) -> None:
        """No context change awaits an ISB."""
        self.unsynced = 0
        self.awaiting.clear()

    def initial(self, address: int) -> int:
        """Return the line state of the word at ``address`` when the routine is entered."""
        return DIRTY if address & self.page_mask in self.dirty else CLEAN

    def line(self, address: int) -> int:
        """Return the line state of the word at ``address`` now."""
        return self.lines.get(address, self.initial(address))

    def perform(self, name: str, word: int, operand: int, cacheable: bool) -> bool:
        """Apply a system instruction by SLEIGH's name; return False if there are no rules for it.

        :param word: its encoding, which holds a barrier's domain and types.
        """
        match name:
            case "DataSynchronizationBarrier":
                self.dsb(word >> 10 & 3, word >> 8 & 3)
            case "DataMemoryBarrier":
                pass
            case _ if name in HINTS:
                pass
            case "InstructionSynchronizationBarrier":
                self.isb()
            case "DC_CIVAC" | "DC_CVAC" | "DC_IVAC":
                self.maintain(name.removeprefix("DC_").lower(), operand, cacheable)
            case "IC_IALLU":
                self.invalidate_icache()
            case "TLBI_VMALLE1":
                self.invalidate_tlb()
            case _:
                return False
        return True

    def store(self, address: int, size: int, cacheable: bool) -> None:
        """Apply a store of ``size`` bytes: to the cache, or directly to memory with the MMU off."""
        self.unfinished = 1
        self.icache = ICACHE_STALE
        for word in range(address & -self.granule, address + size, self.granule):
            clean = not cacheable and self.line(word) == CLEAN
            self._set(word, CLEAN if clean else DIRTY)

    def maintain(self, operation: str, address: int, cacheable: bool) -> None:
        """Apply ``dc civac``, ``cvac`` or ``ivac`` to the line that holds ``address``."""
        self.unfinished = 1
        start = address & -self.line_size
        for word in range(start, start + self.line_size, self.granule):
            state = self.line(word)
            if operation == "ivac" and cacheable:
                state = LOST if state == DIRTY else state
            elif operation == "cvac" and not cacheable:
                pass  # the line stays valid, and accesses with the MMU off do not look it up
            elif state == DIRTY:
                state = PENDING
            self._set(word, state)

    def _set(self, word: int, state: int) -> None:
        self.lines[word] = state
        if state == PENDING:
            self.pending.add(word)
        else:
            self.pending.discard(word)

    def dsb(self, domain: int, types: int) -> None:
        """Apply a DSB by CRm<3:2> and CRm<1:0>; NSH (1) completes no maintenance by address."""
        if types in (0, 1):
            return
        self.unfinished = 0
        if types == 2:
            return
        if self.icache == ICACHE_PENDING:
            self.icache = ICACHE_COMPLETE
        if self.translation == INVALIDATING:
            self.translation = INVALIDATED
        if domain != 1:
            for word in self.pending:
                self.lines[word] = CLEAN
            self.pending.clear()

    def isb(self) -> None:
        """Apply an ISB: context changes take effect."""
        self.synchronize()
        if self.translation == WRITTEN:
            self.translation = SYNCED
        if self.icache == ICACHE_COMPLETE:
            self.icache = ICACHE_INVALID

    def invalidate_icache(self) -> None:
        """Apply ``ic iallu``: it has no effect while stores are unfinished."""
        self.icache = ICACHE_STALE if self.unfinished else ICACHE_PENDING
        self.unsynced = 1

    def invalidate_tlb(self) -> None:
        """Apply ``tlbi vmalle1``, which counts for a table that is in effect."""
        if self.translation == SYNCED:
            self.translation = INVALIDATING

    def write_register(self, name: str, changed: bool = True) -> None:
        """Apply a write of a system register (lower-case name); an equal value changes no table."""
        if name in REGIME:
            self.awaiting.add(name)
        if name in REGIME or name == "sctlr_el2":
            self.unsynced = 1
        if changed and name in ("ttbr0_el1", "ttbr1_el1"):
            self.translation = WRITTEN


def cacheable(sctlr: int) -> bool:
    """Return whether data accesses are looked up in the cache."""
    return sctlr & SCTLR_M != 0 and sctlr & SCTLR_C != 0
