"""Obligations on the routine's first part: from its entry to the loop over the list."""

from __future__ import annotations

from kexec_verify.arm64.execute import Exit, Step
from kexec_verify.arm64.state import State
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.routine import Routine, ends_undefined
from kexec_verify.kexec.translation import require_mapped, require_mapped_access, require_table_changes
from kexec_verify.logic import FALSE, TRUE, And, Not, within
from kexec_verify.obligation import Facts
from kexec_verify.specs.relocate_kernel import done
from kexec_verify.symbolic.explore import Decide


def run(routine: Routine, decide: Decide) -> list[Step]:
    """Run every path from the entry to a cutpoint and add its proof obligations.

    :raises UnsupportedError: if the routine can end before its loop.
    """
    explorer = routine.explorer(routine.stops, decide)
    start = routine.entry.assume(*routine.assumptions())
    arrivals = explorer.run(start, routine.code.address)
    routine.collect(explorer)
    # A routine that tests the head itself needs no promise about it.
    tests_head = any(step.then != routine.variant.loop for step in arrivals if not ends_undefined(step))
    promised: Facts = () if tests_head else (("list-head", Not(done(routine.head))),)
    for step in arrivals:
        if not ends_undefined(step):
            _require(routine, step, promised)
    for state in (*(step.state for step in arrivals), *explorer.iterations):
        _require_effects(routine, state)
    return [step for step in arrivals if not ends_undefined(step)]


def _require(routine: Routine, step: Step, promised: Facts) -> None:
    state, path = step.state, step.state.trace
    if isinstance(step.then, Exit):
        raise UnsupportedError("exit before the loop over the list", path[-1])
    untouched = And(*(TRUE if access.kind == "load" else FALSE for access in state.accesses))
    routine.require("init", "nothing is stored before the loop", state.facts, untouched, path=path)
    if step.then == routine.variant.loop:
        first = state.registers[routine.variant.entry] == routine.head
        routine.require("init", "the first word is kimage->head", state.facts, first, path=path)
        goes_on = Not(done(routine.head))
        facts = (*state.facts, *promised)
        routine.require("init", "the loop is entered for a head without IND_DONE", facts, goes_on, path=path)
    else:
        goal = done(routine.head)
        routine.require(
            "init", "the loop is skipped only for a head with IND_DONE", state.facts, goal, path=path
        )


def _require_effects(routine: Routine, state: State) -> None:
    """Require that only struct kimage is read, and that only translation tables are changed."""
    layout = routine.variant.layout
    for access in state.accesses:
        allowed = FALSE
        if layout is not None and access.kind == "load":
            allowed = within(access.address, routine.entry.registers["x0"], layout.size)
        routine.require_access(access, "reads a field of struct kimage", allowed)
        require_mapped_access(
            routine,
            access,
            "the running kernel's tables or the copy of the linear map",
            routine.is_running_map,
            routine.selects_copy,
        )
    require_table_changes(routine, state.events)
    routine.require_effects(state.events)
    require_mapped(routine, state.events, "nothing that is mapped for sure", lambda address: FALSE)
