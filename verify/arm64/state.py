"""The state of one CPU: registers, system registers, memory, and ghost state.

Ghost state is what the architecture remembers but no instruction can read: whether a
context change awaits an ISB, whether stores await a DSB, what the instruction cache
may hold, how far a change of translation tables has come.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from kexec_verify.arm64.cache import Lines, LineState
from kexec_verify.arm64.lift import registers
from kexec_verify.logic import And, Formula, Term, const, var
from kexec_verify.memory import Memory

GENERAL = tuple(f"x{i}" for i in range(31))
FLAGS = ("NG", "ZR", "CY", "OV")
SCRATCH = ("tmpNG", "tmpZR", "tmpCY", "tmpOV", "shift_carry")
SYSTEM = (
    *("sctlr_el1", "ttbr0_el1", "ttbr1_el1", "tcr_el1", "ctr_el0", "daif"),
    *("currentel", "sp_el0", "tpidr_el1", "vbar_el2"),
    *("sctlr_el2", "esr_el2", "elr_el2", "spsr_el2"),
)
NAMES = (*GENERAL, "sp", *FLAGS, *SCRATCH, *SYSTEM)

UNSYNCED = {
    "sctlr_el1": "sctlr_unsynced",
    "ttbr0_el1": "ttbr0_unsynced",
    "ttbr1_el1": "ttbr1_unsynced",
    "tcr_el1": "tcr_unsynced",
}
"""For each register of the translation regime, the ghost component that says its change awaits an ISB."""

# Ghost components and their widths in bits; ``unsynced`` is any context change that awaits an ISB.
GHOSTS = {
    "unsynced": 1,
    **dict.fromkeys(UNSYNCED.values(), 1),
    "unfinished": 1,
    "icache": 2,
    "translation": 3,
}

ICACHE_INVALID, ICACHE_PENDING, ICACHE_STALE, ICACHE_COMPLETE = (const(value, 2) for value in range(4))
"""No stale instruction; invalidation issued; may hold older instructions; complete (DSB), awaits an ISB."""

(
    TRANSLATION_SETTLED,
    TRANSLATION_WRITTEN,
    TRANSLATION_SYNCED,
    TRANSLATION_INVALIDATING,
    TRANSLATION_INVALIDATED,
) = (const(value, 3) for value in range(5))
"""A TTBR write on its way: none, written, seen (ISB), TLBI issued, TLBI complete (DSB)."""

SCTLR_M, SCTLR_C = 1 << 0, 1 << 2


@dataclass(frozen=True)
class Access:
    """One load or store; the width of ``value`` says of how many bits.

    :param known: how many facts of its path held when it was made.
    :param sp: the stack pointer when its instruction began, which may have changed it since.
    """

    kind: str
    address: Term
    value: Term
    at: int
    known: int
    before: State
    sp: Term

    @property
    def size(self) -> int:
        """Return the size in bytes."""
        return int(self.value.length) // 8


@dataclass(frozen=True)
class Event:
    """One system instruction: its name, operands, and the state just before it.

    :param tag: of a call, what the variables that it leaves behind are named after.
    """

    name: str
    operands: tuple[Term, ...]
    at: int
    known: int
    before: State
    tag: str | None = None


@dataclass(frozen=True)
class State:
    """The machine at one point of one path. Immutable.

    :param fetch: what the instruction cache may hold of each word (see cache.Invalidated).
    :param facts: labelled formulas that hold here: assumptions, invariants, branch conditions.
    :param forgotten: variables that stand for any value here, by name, and the value that each has on this
        path (see symbolic/detours.py).
    """

    registers: dict[str, Term]
    ghosts: dict[str, Term]
    memory: Memory
    lines: LineState
    facts: tuple[tuple[str, Formula], ...] = ()
    accesses: tuple[Access, ...] = ()
    events: tuple[Event, ...] = ()
    trace: tuple[int, ...] = field(default=(), repr=False)
    fetch: LineState = field(default_factory=lambda: Lines("fetch"))
    forgotten: tuple[tuple[str, Term], ...] = ()

    def with_registers(self, **changed: Term) -> State:
        """Return this state with some registers set."""
        return replace(self, registers={**self.registers, **changed})

    @property
    def sp(self) -> Term:
        """Return the stack pointer."""
        return self.registers["sp"]

    def with_ghosts(self, **changed: Term) -> State:
        """Return this state with some ghost components set."""
        return replace(self, ghosts={**self.ghosts, **changed})

    def assume(self, *facts: tuple[str, Formula]) -> State:
        """Return this state with more facts."""
        return replace(self, facts=(*self.facts, *facts))

    @property
    def cacheable(self) -> Formula:
        """Data accesses are looked up in the cache: SCTLR_EL1.M and .C are set."""
        return (self.registers["sctlr_el1"] & (SCTLR_M | SCTLR_C)) == (SCTLR_M | SCTLR_C)


def synced(ghosts: dict[str, Term]) -> Formula:
    """Return the formula that no context change awaits an ISB."""
    return And(*(ghosts[name] == 0 for name in ("unsynced", *UNSYNCED.values())))


def width(name: str) -> int:
    """Return the width in bits of the register called ``name``."""
    return int(registers()[name].size) * 8


def unknown_registers(tag: str) -> dict[str, Term]:
    """Return a register file of variables named after ``tag``; CTR_EL0 is one constant of the machine."""
    return {name: var(name if name == "ctr_el0" else f"{name}@{tag}", width(name)) for name in NAMES}


def unknown_ghosts(tag: str) -> dict[str, Term]:
    """Return ghost components that are variables named after ``tag``."""
    return {name: var(f"{name}@{tag}", bits) for name, bits in GHOSTS.items()}
