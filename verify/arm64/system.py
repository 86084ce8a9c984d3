"""The meaning of system instructions: barriers, maintenance, system registers, HVC.

Each is a function from a state to a state. What SLEIGH names and this table lacks is an effect
that no function may have: see specs/effects.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kexec_verify.arm64 import state as ghost
from kexec_verify.arm64.cache import Changed, Completed, Invalidated, LineState, Maintained, Touched, stored
from kexec_verify.arm64.state import State
from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import If, Term, const, constant, normal, same, var

# System registers whose change needs a context synchronization event before it is
# relied on (Arm ARM, D1.3.5 and D24.1.2).
CONTEXT_REGISTERS = frozenset({*ghost.UNSYNCED, "sctlr_el2"})
TRANSLATION_REGISTERS = frozenset({"ttbr0_el1", "ttbr1_el1"})

# CRm<3:2> of a DSB: OSH, NSH, ISH, SY; CRm<1:0>: LD = 1, ST = 2, all = 3 (Arm ARM, C6.2.107).
DOMAIN_NSH = 1
TYPES_STORES = 2
TYPES_ALL = 3

type Meaning = Callable[[State, tuple[Term, ...], int], State]


def _number(operand: Term, what: str, at: int) -> int:
    value = constant(operand)
    if value is None:
        raise UnsupportedError(f"{what} with an operand that is no constant", at)
    return value


def dsb(state: State, operands: tuple[Term, ...], at: int) -> State:
    """Execute a data synchronization barrier: domain, access types, nXS."""
    domain, types = (_number(operand, "dsb", at) for operand in operands[:2])
    if types < TYPES_STORES:
        return state  # a barrier for loads completes neither stores nor maintenance
    done = state.with_ghosts(unfinished=const(0, 1))
    if types != TYPES_ALL:
        return done
    icache, translation = state.ghosts["icache"], state.ghosts["translation"]
    done = done.with_ghosts(
        icache=If(icache == ghost.ICACHE_PENDING, ghost.ICACHE_COMPLETE, icache),
        translation=If(
            translation == ghost.TRANSLATION_INVALIDATING, ghost.TRANSLATION_INVALIDATED, translation
        ),
    )
    # Maintenance by address of shareable memory is complete only for the domain that the DSB names.
    if domain == DOMAIN_NSH:
        return done
    return replace(done, lines=Completed(state.lines), fetch=Completed(state.fetch))


def dmb(state: State, operands: tuple[Term, ...], at: int) -> State:
    """Execute a data memory barrier: it orders accesses of this CPU and completes nothing."""
    return state


def isb(state: State, operands: tuple[Term, ...], at: int) -> State:
    """Execute an instruction synchronization barrier: earlier context changes take effect.

    Only instructions after the ISB see an invalidation of the instruction cache that a DSB has completed (Arm
    ARM, B2.4.3).
    """
    translation, icache = state.ghosts["translation"], state.ghosts["icache"]
    return state.with_ghosts(
        unsynced=const(0, 1),
        **dict.fromkeys(ghost.UNSYNCED.values(), const(0, 1)),
        icache=If(icache == ghost.ICACHE_COMPLETE, ghost.ICACHE_INVALID, icache),
        translation=If(translation == ghost.TRANSLATION_WRITTEN, ghost.TRANSLATION_SYNCED, translation),
    )


def _dc(operation: str) -> Meaning:
    def maintain(state: State, operands: tuple[Term, ...], at: int) -> State:
        lines = Maintained(state.lines, operands[0], None, operation, state.cacheable)
        return replace(state, lines=lines).with_ghosts(unfinished=const(1, 1))

    return maintain


def ic_iallu(state: State, operands: tuple[Term, ...], at: int) -> State:
    """Invalidate all instruction caches to PoU; useless while stores are unfinished."""
    finished = state.ghosts["unfinished"] == 0
    return state.with_ghosts(
        icache=If(finished, ghost.ICACHE_PENDING, ghost.ICACHE_STALE), unsynced=const(1, 1)
    )


def dc_cvau(state: State, operands: tuple[Term, ...], at: int) -> State:
    """Clean a line to the point of unification, which does not affect the point of coherency."""
    return state.with_ghosts(unfinished=const(1, 1))


def ic_ivau(state: State, operands: tuple[Term, ...], at: int) -> State:
    """Invalidate the instruction-cache line that holds the address."""
    fetch = Invalidated(state.fetch, operands[0], None, state.lines)
    return replace(state, fetch=fetch).with_ghosts(unsynced=const(1, 1))


def tlbi(state: State, operands: tuple[Term, ...], at: int) -> State:
    """Invalidate the TLB of this CPU: counts for a table change that is in effect (ISB)."""
    translation = state.ghosts["translation"]
    return state.with_ghosts(
        translation=If(translation == ghost.TRANSLATION_SYNCED, ghost.TRANSLATION_INVALIDATING, translation)
    )


def hvc(state: State, operands: tuple[Term, ...], at: int) -> State:
    """Execute a hypervisor call that returns: x0-x17 are unknown after it (SMCCC 1.0, 2.6)."""
    return state.with_registers(**left_by_hvc(len(state.events)))


def left_by_hvc(events: int) -> dict[str, Term]:
    """Return what a hypervisor call leaves in x0 to x17: variables of their own.

    :param events: how many events the path has had, the call included.
    """
    return {f"x{i}": var(f"x{i}@hvc{events}") for i in range(18)}


def nothing(state: State, operands: tuple[Term, ...], at: int) -> State:
    """Execute a hint."""
    return state


MEANING: dict[str, Meaning] = {
    "DataSynchronizationBarrier": dsb,
    "DataMemoryBarrier": dmb,
    "InstructionSynchronizationBarrier": isb,
    "DC_CIVAC": _dc("civac"),
    "DC_CVAC": _dc("cvac"),
    "DC_IVAC": _dc("ivac"),
    "DC_CVAU": dc_cvau,
    "IC_IVAU": ic_ivau,
    "IC_IALLU": ic_iallu,
    "TLBI_VMALLE1": tlbi,
    "CallHyperVisor": hvc,
    "Hint_Prefetch": nothing,
    "Yield": nothing,
    "SendEvent": nothing,
    "SendEventLocally": nothing,
    "ClearExclusiveLocal": nothing,
}

FREE = frozenset(
    {
        *("DataSynchronizationBarrier", "DataMemoryBarrier", "InstructionSynchronizationBarrier"),
        *("Hint_Prefetch", "Yield", "SendEvent", "SendEventLocally", "ClearExclusiveLocal"),
    }
)
"""System instructions that any function may execute: they wait, or hint, and change nothing."""


def other(state: State, operands: tuple[Term, ...], at: int) -> State:
    """Execute a system instruction whose effect is not modelled.

    No function may execute one (specs/effects.py), so no proof depends on the state after it.
    """
    return state


def store(state: State, address: Term, length: Term) -> State:
    """Apply the ghost effects of stores to the ``length`` bytes from ``address``."""
    changed = touch(state, address, length)
    return changed.with_ghosts(unfinished=const(1, 1), icache=ghost.ICACHE_STALE)


def touch(state: State, address: Term, length: Term) -> State:
    """Apply the effect of stores to the ``length`` bytes from ``address`` on both caches."""
    lines: LineState
    fetch: LineState
    if state.memory.words:
        lines = stored(state.lines, address, length, state.cacheable)
        fetch = Changed(state.fetch, address, length)
    else:
        lines = Touched(state.lines, address, length, state.cacheable)
        fetch = Touched(state.fetch, address, length, None)
    return replace(state, lines=lines, fetch=fetch)


def write_register(state: State, name: str, value: Term) -> State:
    """Write the system register ``name``; writing its own value changes no translation."""
    changed = not same(normal(value), normal(state.registers[name]))
    state = state.with_registers(**{name: value})
    if name in CONTEXT_REGISTERS:
        own = [ghost.UNSYNCED[name]] if name in ghost.UNSYNCED else []
        state = state.with_ghosts(**dict.fromkeys(("unsynced", *own), const(1, 1)))
    if name in TRANSLATION_REGISTERS and changed:
        state = state.with_ghosts(translation=ghost.TRANSLATION_WRITTEN)
    return state
