"""Obligations on the routine's last part: from the loop over the list to the next kernel."""

from __future__ import annotations

from kexec_verify.arm64 import cache
from kexec_verify.arm64.cache import Lines
from kexec_verify.arm64.execute import Exit, Step
from kexec_verify.arm64.state import (
    GHOSTS,
    ICACHE_INVALID,
    SYSTEM,
    Event,
    State,
    synced,
    unknown_ghosts,
    unknown_registers,
)
from kexec_verify.errors import InternalError
from kexec_verify.kexec.abi_variant import ENTRY_MEMORY
from kexec_verify.kexec.routine import Routine, ends_undefined
from kexec_verify.kexec.translation import require_mapped
from kexec_verify.logic import FALSE, TRUE, And, Formula, Term, aligned, const, same, variables
from kexec_verify.memory import Unknown
from kexec_verify.obligation import Facts
from kexec_verify.specs import boot_protocol
from kexec_verify.symbolic.explore import ANYWHERE, Decide

_TAG = "done"
_LEAVES = ("br", "ret", "call")
"""How an instruction may go to an address in a register; which one it is changes nothing for its target."""
_LINES = Lines("L1")


def run(routine: Routine, arrivals: list[Step], decide: Decide) -> list[Step]:
    """Add the obligations on the code from where the loop is left to the exits; return the paths to the
    exits.

    :param arrivals: the paths that leave the loop, or skip it.
    """
    exits: list[Step] = []
    for stop in sorted({step.then for step in arrivals if isinstance(step.then, int)}):
        states = [step.state for step in arrivals if step.then == stop]
        start = _left(routine, states, decide)
        explorer = routine.explorer(frozenset(), decide)
        ends = explorer.run(start, stop)
        for step in ends:
            if not ends_undefined(step):
                _require_exit(routine, step)
                exits.append(step)
        for state in (*(step.state for step in ends), *explorer.iterations):
            _require_effects(routine, state)
        routine.collect(explorer)
    return exits


def _left(routine: Routine, arrivals: list[State], decide: Decide) -> State:
    """Return a state in which the loop was left: any memory; registers and ghosts that all arrivals share."""
    registers, ghosts = unknown_registers(_TAG), unknown_ghosts(_TAG)
    for name in registers:
        value = arrivals[0].registers[name]
        if _speaks_of_entry(value) and all(same(state.registers[name], value) for state in arrivals):
            registers[name] = value
    for name, width in GHOSTS.items():
        for number in range(1 << width):
            value = const(number, width)
            if all(decide(state.facts, state.ghosts[name] == value) for state in arrivals):
                ghosts[name] = value
                for state in arrivals:
                    sentence = f"the ghost component {name} is {number} when the loop is left"
                    goal = state.ghosts[name] == value
                    routine.require("step-frame", sentence, state.facts, goal, path=state.trace)
                break
    return State(registers, ghosts, Unknown("M1"), _LINES, routine.assumptions())


def _speaks_of_entry(value: Term) -> bool:
    """Return whether ``value`` is made of the state at entry only."""
    return all(
        name == "ctr_el0" or name.endswith("@entry") or name.startswith(f"{ENTRY_MEMORY}@")
        for name in variables([value])
    )


def _require_exit(routine: Routine, step: Step) -> None:
    state, leaves, path = step.state, step.then, step.state.trace
    if not isinstance(leaves, Exit):
        raise InternalError(f"a path after the loop ends at {leaves:#x}")
    facts, where = state.facts, routine.code.where(path[-1])

    def require(name: str, sentence: str, goal: Formula) -> None:
        routine.require(name, sentence, facts, goal, path[-1], path)

    to_start = leaves.target == routine.start if leaves.kind in _LEAVES else FALSE
    require("entry-target", f"the exit at {where} goes to kimage->start", to_start)
    arguments = boot_protocol.registers(state.registers, routine.dtb)
    require("entry-registers", f"at {where} x0 = dtb and x1 = x2 = x3 = 0", arguments)
    require("context-at-exit", f"at {where} no context change awaits an ISB", synced(state.ghosts))
    entry = routine.entry.registers
    changed = ("sctlr_el1", "ttbr1_el1") if routine.variant.kimage else ()
    kept = And(*(state.registers[n] == entry[n] for n in ("sp", *SYSTEM) if n not in changed))
    require("effect-kept", f"at {where} SP and the other system registers are as they were", kept)
    if routine.variant.kimage:
        asked = any(event.name == "CallHyperVisor" for event in state.events)
        goal = TRUE if asked else routine.el2_vectors == 0
        require("entry-el2", f"{where} is reached without an HVC only if there are no EL2 vectors", goal)
    _require_machine(routine, "entry", where, state, facts)
    _require_clean(routine, f"at {where}", state, facts)


def _require_effects(routine: Routine, state: State) -> None:
    """Require that nothing is stored, and that system registers and EL2 calls change in order."""
    for access in state.accesses:
        routine.require_access(access, "is not made: the loop is over", FALSE)
    require_mapped(routine, state.events, "nothing that is mapped for sure", lambda address: FALSE)
    routine.require_effects(state.events)
    for event in state.events:
        known = event.before.facts[: event.known]
        shown = routine.code.where(event.at)
        if event.name == "msr sctlr_el1":
            _require_clean(routine, f"when SCTLR_EL1 is written at {shown}", event.before, known)
        if event.name == "msr ttbr1_el1":
            routine.require("ttbr1-order", f"TTBR1_EL1 is not written at {shown}", known, FALSE, event.at)
        if event.name == "CallHyperVisor":
            _require_call(routine, event, shown, known)


def _require_call(routine: Routine, event: Event, where: str, facts: Facts) -> None:
    """Require that an HVC asks EL2 to do what the other exit does, and only if there are EL2 vectors."""
    before = event.before
    called = routine.el2_vectors != 0 if routine.variant.kimage else TRUE
    routine.require(
        "entry-hvc",
        f"the HVC at {where} asks for HVC_SOFT_RESTART of start and dtb, and only with el2_vectors set",
        facts,
        And(called, boot_protocol.soft_restart_call(before.registers, routine.start, routine.dtb)),
        event.at,
    )
    _require_machine(routine, "entry-hvc", where, before, facts)
    _require_clean(routine, f"at the HVC at {where}", before, facts)


def _require_machine(routine: Routine, name: str, where: str, state: State, facts: Facts) -> None:
    """Require MMU off, interrupts masked, instruction cache invalid."""
    off = routine.is_off(state.registers["sctlr_el1"])
    routine.require(f"{name}-mmu-off", f"at {where} SCTLR_EL1 is the value with the MMU off", facts, off)
    routine.require(
        "context-at-exit", f"at {where} no context change awaits an ISB", facts, synced(state.ghosts)
    )
    masked = boot_protocol.masked(state.registers["daif"])
    routine.require(f"{name}-masked", f"at {where} interrupts are masked", facts, masked)
    invalid = state.ghosts["icache"] == ICACHE_INVALID
    sentence = f"at {where} the instruction cache is invalid: DSB and ISB have followed the invalidation"
    routine.require("icache-invalid", sentence, facts, invalid)


def _require_clean(routine: Routine, when: str, state: State, facts: Facts) -> None:
    """Require that what was clean when the loop was left is still clean."""
    routine.require(
        "clean-to-poc-kept",
        f"{when} every word that was clean when the loop was left is clean",
        (
            *facts,
            ("the word is aligned", aligned(ANYWHERE, 8)),
            ("the word was clean", _LINES.read(ANYWHERE) == cache.CLEAN),
        ),
        state.lines.read(ANYWHERE) == cache.CLEAN,
    )
