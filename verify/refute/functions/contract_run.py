"""Run one function with callees that answer by contract, and ghost state in plain ints.

A Processor repeats answers that were worked out for one path. This run goes where the bytes take it: a
changed function may call with other arguments, or make another call. Memory appears where the function's
objects are; an access elsewhere is a fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import msgspec
import unicorn
from kexec_verify.arm64.lift import SIZE, Code
from kexec_verify.arm64.state import FLAGS, GENERAL, GHOSTS, SYSTEM, UNSYNCED
from kexec_verify.arm64.system import MEANING
from kexec_verify.kexec.calls import clobbered
from kexec_verify.kexec.context import FRAME_BYTES, KexecContext
from kexec_verify.logic import Term, const, constant
from kexec_verify.refute import ghost as plain
from kexec_verify.refute.functions.effects import Inputs
from kexec_verify.refute.functions.path_run import PAGE, PathRun
from kexec_verify.refute.functions.values import usual, usual_word
from kexec_verify.refute.ghost import Ghost
from kexec_verify.specs.contracts import Contract, contract
from kexec_verify.specs.hyp_stub import BOOT_CPU_MODE_EL2, CURRENT_EL2

_ALL_BITS = 0x9E37_79B9_7F4A_7C15  # odd, about half of its bits set
LIMIT = 20_000  # instructions of a run; no function of kexec needs so many for one page
_SHORT = 1 << 14  # bytes
FILLED = (0x4830_0000, 16)
"""What a callee sets words to that its contract lets it set to anything: a table, and a T0SZ."""

type Range = tuple[int, int]


class ContractRun(PathRun):
    """One run of one function.

    :param inputs: its answers give results of callees by name, in order; what is not there is 0.
    :param regions: where memory appears on demand: first address, and end.
    :param dirty: pages whose lines are dirty at entry.
    :param maintainable: where cache lines may be maintained by address. A run ends after maintenance
        elsewhere, because that can fault. None if it may be anywhere.
    :ivar called: the calls in order, each as ``NAME#NUMBER``; ``answered``: x0 after each that returned.
    :ivar ghosts: the ghost state before each event.
    :ivar stored: bytes by address, in order, that were written by the function or by its callees.
    :ivar maintained: addresses of maintenance by address, and of which instruction.
    :ivar copied: destination, source and bytes of what callees copied.
    :ivar misplaced: the first access to none of the function's objects, or below SP, in words; empty if none.
    :ivar undecided: why the run decides nothing; empty if it does.
    """

    def __init__(
        self,
        code: Code,
        inputs: Inputs,
        context: KexecContext,
        regions: list[Range],
        dirty: set[int],
        maintainable: list[Range] | None = None,
    ):
        self.context, self.regions, self._maintainable = context, regions, maintainable
        sizes = inputs.registers["ctr_el0"]
        self.ghost = Ghost(SIZE << (sizes >> 16 & 15), dirty, PAGE)
        self.fetch_line = SIZE << (sizes & 15)
        self.fetched: dict[int, int] = {}  # word -> PENDING or CLEAN; others may be stale
        self.synchronized = False  # an ISB was executed
        self.called: list[str] = []
        self.answered: dict[str, int] = {}
        self.ghosts: list[dict[str, int]] = []
        self.stored: list[tuple[int, bytes]] = []
        self.maintained: list[tuple[int, int]] = []
        self.copied: list[tuple[int, int, int]] = []
        self.undecided = ""
        self.misplaced = ""
        self._frame = range(inputs.registers["sp"] - FRAME_BYTES, inputs.registers["sp"])
        self._judged = 0  # accesses that were held against SP
        super().__init__(code, inputs)
        self._uc.hook_add(unicorn.UC_HOOK_MEM_UNMAPPED, self._on_unmapped)

    def entry_word(self, address: int) -> int:
        """Return the 64-bit word at ``address`` when the function is entered."""
        if address in self.inputs.memory:
            return self.inputs.memory[address]
        mapped = address & -PAGE in self.inputs.pages
        return 0 if mapped else usual_word(self.context, address)

    def may_maintain(self, address: int) -> bool:
        """Return whether the line at ``address`` may be maintained."""
        allowed = self._maintainable
        return allowed is None or any(start <= address < end for start, end in allowed)

    def fetch_state(self, word: int) -> int:
        """Return whether an instruction cache may hold an older value of the word at ``word``."""
        if self.context.sets("HAS_CACHE_DIC") and self.synchronized and self.ghost.line(word) == plain.CLEAN:
            return plain.CLEAN
        return self.fetched.get(word, plain.DIRTY)

    def ghosts_now(self) -> dict[str, int]:
        """Return the ghost components except cache lines, by their names in State."""
        return {name: getattr(self.ghost, name) for name in GHOSTS}

    def stub_below(self) -> bool:
        """Return whether the hyp stub is installed below the kernel."""
        first = self.context.globals["__boot_cpu_mode"]
        modes = [self.entry_word(at & -8) >> 8 * (at & 7) & 0xFFFF_FFFF for at in (first, first + 4)]
        came_up = modes == [BOOT_CPU_MODE_EL2, BOOT_CPU_MODE_EL2]
        return came_up and self.system["currentel"] != CURRENT_EL2

    def replayable(self) -> Inputs:
        """Return inputs with which a Processor repeats a finished run that called nothing."""
        mapped = [(start, end) for start, end, _ in self._uc.mem_regions()]
        code = {p for piece in self.code.pieces for p in range(piece.address & -PAGE, piece.end, PAGE)}
        pages = [p for start, end in mapped for p in range(start & -PAGE, end, PAGE) if p not in code]
        words = {at: self.entry_word(at) for page in pages for at in range(page, page + PAGE, 8)}
        memory = {at: word for at, word in words.items() if word}
        return msgspec.structs.replace(
            self.inputs, memory=memory, pages=tuple(sorted(pages)), answers=(), length=len(self.trace)
        )

    # Memory on demand

    def _on_unmapped(
        self, uc: unicorn.Uc, access: int, address: int, size: int, value: int, data: object
    ) -> bool:
        page = address % (1 << 64) & -PAGE
        if not any(start < page + PAGE and page < end for start, end in self.regions):
            self._misplace(self.trace[-1], address, "none of its objects")
            return False
        uc.mem_map(page, PAGE, unicorn.UC_PROT_ALL)
        for at in range(page, page + PAGE, 8):
            uc.mem_write(at, self.entry_word(at).to_bytes(8, "little"))
        return True

    def _mapped(self, address: int) -> bool:
        return super()._mapped(address) or self._on_unmapped(self._uc, 0, address, 1, 0, None)

    def _on_access(
        self, uc: unicorn.Uc, access: int, address: int, size: int, value: int, data: object
    ) -> None:
        super()._on_access(uc, access, address, size, value, data)
        last = self.accesses[-1]
        if last.kind == "store":
            self.stored.append((last.address, last.value.to_bytes(size, "little")))
            self._touch(last.address, size)

    def _note_change(self) -> None:
        sp = self._before[-1] if self._before else 0
        super()._note_change()
        # An instruction that pushes or pops is at the lower of its two stack pointers.
        lowest = min(sp, self._before[-1])
        for access in self.accesses[self._judged :]:
            if access.address in self._frame and access.address < lowest:
                self._misplace(access.at, access.address, "below SP")
        self._judged = len(self.accesses)

    def _misplace(self, at: int, address: int, what: str) -> None:
        place = self.code.where(at)
        self.misplaced = self.misplaced or f"{place} accesses {address % (1 << 64):#x}, which is {what}"

    def _touch(self, address: int, size: int) -> None:
        self.ghost.store(address, size, plain.cacheable(self.system["sctlr_el1"]))
        for word in range(address & -8, address + size, 8):
            self.fetched.pop(word, None)

    # System instructions

    def _happen(self, name: str, at: int, operand: int = 0) -> None:
        self.ghosts.append(self.ghosts_now())
        word = self.code.at(at).word
        if name.startswith(("DC_", "IC_IV")):
            operand = self._operand(word & 31)
        super()._happen(name, at, operand)
        if name.startswith("msr "):
            self.ghost.write_register(name.removeprefix("msr "), True)
        elif name in ("call", "warn", "CallHyperVisor"):
            return
        elif name.startswith(("DC_", "IC_IV")):
            self.maintained.append((at, operand))
            if not self.may_maintain(operand):
                # It stops before the next instruction, as a replay of the instructions so far does.
                self.inputs = msgspec.structs.replace(self.inputs, length=len(self.trace))
            if name == "IC_IVAU":
                start = operand & -self.fetch_line
                for place in range(start, start + max(self.fetch_line, 8), 8):
                    clean = self.ghost.line(place) == plain.CLEAN
                    self.fetched[place] = plain.PENDING if clean else plain.DIRTY
                self.ghost.unsynced = 1
            elif not self.ghost.perform(name, word, operand, plain.cacheable(self.system["sctlr_el1"])):
                self.ghost.unfinished = 1  # dc cvau
        elif name in MEANING:
            self.ghost.perform(name, word, 0, plain.cacheable(self.system["sctlr_el1"]))
            self.synchronized |= name == "InstructionSynchronizationBarrier"
            domain, types = word >> 10 & 3, word >> 8 & 3
            if name == "DataSynchronizationBarrier" and domain != 1 and types not in (0, 1, 2):
                self.fetched = {at: 0 if s == plain.PENDING else s for at, s in self.fetched.items()}

    # Calls

    def _call(self, at: int) -> None:
        instruction = self.code.at(at)
        target = instruction.call_target
        if target is None:
            target = self._operand(instruction.word >> 5 & 31)
        found = None if "CALLIND" in instruction.opcodes else self._contract(target)
        self._set({"x30": at + SIZE})
        if found is None or target in self.context.restart:
            self._leave("call", at, target)
        elif self._apply(*found, at):
            return
        else:
            self._leave("ends", at, target)

    def _tail_call(self, at: int) -> None:
        back = self._operand(30)
        target = next(
            int(o.inputs[0].offset) for o in self.code.at(at).operations if o.opcode.name == "BRANCH"
        )
        found = self._contract(target)
        if found is None or target in self.context.restart:
            self._leave("br", at, target)
        elif self._apply(*found, at):
            self._leave("ret", at, back)
        else:
            self._leave("ends", at, target)

    def _hvc(self, at: int) -> None:
        self._happen("CallHyperVisor", at)
        self._set({f"x{i}": 0xDEAD_0000_0000 + i for i in range(18)})

    def _contract(self, target: int) -> tuple[str, Contract] | None:
        for name in self.context.kernel.symbols_at(target):
            found = contract(name)
            if found is not None:
                return name, found
        return None

    def _apply(self, name: str, found: Contract, at: int) -> bool:
        """Apply the effect of the callee; return False if it does not return."""
        self._happen("call", at)
        before = self.registers()
        tag = f"{name}#{len(self.called)}"
        self.called.append(tag)
        if not found.returns:
            return False
        after = {r: usual(f"{r}@{name}#") for r in clobbered(self.context, name, found) if r in before}
        after |= dict.fromkeys(FLAGS, 0)
        known = next((answer for answer in self._answers if answer.name == name), None)
        if known is not None:
            self._answers.remove(known)
            after |= {r: value for r, value in known.registers.items() if r == "x0"}
        if found.answers_stub:
            after["x0"] = int(self.stub_below())
        chosen = next(self._allowed(found, before, {**before, **after}), None)
        if chosen is None:
            self.undecided = f"no answer of {name} is known for what it is given"
            self._uc.emu_stop()
            return True
        self.ghost.translation = chosen.pop("translation")
        synced = not chosen.pop("unsynced")
        if synced:
            self.ghost.synchronize()
        else:
            self.ghost.unsynced = 1
        self._set(chosen)
        self.answered[tag] = self._operand(0)
        self.ghost.icache, self.ghost.unfinished = plain.ICACHE_STALE, 1
        self._promise(found, {r: const(v) for r, v in before.items()})
        return True

    def _allowed(
        self, found: Contract, before: dict[str, int], after: dict[str, int]
    ) -> Iterator[dict[str, int]]:
        """Yield registers and ghost state after a call, as bad as its contract allows."""
        tables = [before["x0"], self._reserved()] if "ttbr0_el1" in found.changes else [before["ttbr0_el1"]]
        unsynced = (1, 0) if "unsynced" in found.changes else (self.ghost.unsynced,)
        translations = (plain.WRITTEN,) if "translation" in found.changes else (self.ghost.translation,)
        for table, sync, translation in product(tables, unsynced, translations):
            guess = {**after, "ttbr0_el1": table, "unsynced": sync, "translation": translation}
            awaiting = {name: 0 if not sync else getattr(self.ghost, name) for name in UNSYNCED.values()}
            after_all = self.terms({**guess, **awaiting})
            if found.ensures is None or found.ensures(self.terms(before), after_all).is_true():
                yield guess

    def terms(self, registers: dict[str, int]) -> dict[str, Term]:
        """Return the terms that contracts use, as constants."""
        ones = dict.fromkeys(("unsynced", *UNSYNCED.values()), 1)
        widths = {**ones, "translation": 3, **dict.fromkeys(FLAGS, 8)}
        known = {name: const(value, widths.get(name, 64)) for name, value in registers.items()}
        folds = self.context.globals.folds_ttbr
        known["folds TTBR"] = const(2 if folds is None else int(folds))
        return {**known, "PA(reserved_pg_dir)": const(self._reserved())}

    def _reserved(self) -> int:
        places = self.context.globals.addresses
        if "reserved_pg_dir" not in places:
            return 0
        return (places["reserved_pg_dir"] - self.entry_word(places["kimage_voffset"])) % (1 << 64)

    def _promise(self, found: Contract, x: dict[str, Term]) -> None:
        if found.cleans is not None:
            for word in self._words(*_numbers(*found.cleans(x))):
                self.ghost.lines[word] = plain.CLEAN
        if found.fetches is not None:
            for word in self._words(*_numbers(*found.fetches(x))):
                clean = self.ghost.line(word) == plain.CLEAN
                self.fetched[word] = plain.CLEAN if clean else plain.DIRTY
        if found.copies is not None:
            dest, source, length = _numbers(*found.copies(x))
            if length > PAGE or not self.context.kernel.mapped(source, max(length, 1)):
                self.undecided = "a copy of other bytes than a part of the image"
                self._uc.emu_stop()
                return
            self.copied.append((dest, source, length))
            self._write(dest, self.context.kernel.read(source, length))
        for number, register in enumerate(found.fills):
            self._write(_numbers(x[register])[0], FILLED[number].to_bytes(8, "little"))

    def _write(self, address: int, data: bytes) -> None:
        """Write ``data`` for a callee."""
        for start in range(address & -PAGE, address + len(data), PAGE):
            if self.read(start, 1) is None and not self._on_unmapped(self._uc, 0, start, 8, 0, None):
                self._uc.emu_stop()
                return
        self._uc.mem_write(address, data)
        self.stored.append((address, data))
        if data:
            self._touch(address, len(data))

    def _words(self, start: int, end: int) -> Iterator[int]:
        """Yield the words from ``start`` to ``end``; of a long range only dirty and stored ones."""
        if 0 <= end - start <= _SHORT:
            yield from range(start & -8, end, 8)
            return
        pages = {*self.ghost.dirty, *(at & -PAGE for at, _ in self.stored)}
        for page in sorted(pages):
            yield from (at for at in range(page, page + PAGE, 8) if start <= at < end)


def _numbers(*terms: Term) -> tuple[int, ...]:
    found = tuple(constant(term) for term in terms)
    assert all(value is not None for value in found)
    return tuple(int(value) for value in found if value is not None)


def entered(
    code: Code, start: int, registers: dict[str, int], memory: dict[int, int] | None = None
) -> Inputs:
    """Return inputs of a run that starts at ``start`` with ``registers``, and default values elsewhere."""
    names = (*GENERAL, "sp", *FLAGS, *SYSTEM)
    full = {name: registers.get(name, usual(f"{name}@")) for name in names}
    return Inputs(start, full, memory or {}, (), (), LIMIT)


def varied(inputs: Inputs) -> Iterator[Inputs]:
    """Yield the same inputs, and inputs with other values in the unconstrained general registers.

    A changed function may read one of them: small numbers, numbers near 2^64, and numbers of all bits.
    """
    yield inputs
    free = [(i, r) for i, r in enumerate(GENERAL[:-1]) if inputs.registers[r] == usual(f"{r}@")]
    for value in (lambda i: i, lambda i: -1 - i, lambda i: (i + 1) * _ALL_BITS):
        others = {register: value(i) % (1 << 64) for i, register in free}
        yield msgspec.structs.replace(inputs, registers={**inputs.registers, **others})
