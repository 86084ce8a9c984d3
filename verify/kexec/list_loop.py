"""Require that one iteration of the list loop is one step of the list machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kexec_verify.arm64 import cache
from kexec_verify.arm64.cache import Lines
from kexec_verify.arm64.execute import Exit, Step
from kexec_verify.arm64.state import GHOSTS, Event, State, unknown_ghosts, unknown_registers
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.routine import Routine, ends_undefined
from kexec_verify.kexec.translation import (
    require_mapped,
    require_mapped_access,
    require_table_changes,
    require_translated,
)
from kexec_verify.logic import (
    And,
    Formula,
    Implies,
    Not,
    Or,
    Term,
    aligned,
    const,
    constant,
    same,
    ult,
    var,
    within,
)
from kexec_verify.memory import Unknown, cases
from kexec_verify.obligation import Facts
from kexec_verify.specs.effects import copies_page
from kexec_verify.specs.kimage import one_flag
from kexec_verify.specs.relocate_kernel import Kind, ListMachine, done, is_kind
from kexec_verify.symbolic.explore import ANYWHERE, Decide, Explorer

TOP = (1 << 64) - (1 << 20)
"""Pages of the list lie below: the assumption pages-below-top."""

_TAG = "loop"
_ALIGNED = ("the word is aligned", aligned(ANYWHERE, 8))


def run(routine: Routine, entering: list[Step], decide: Decide, single_flags: bool) -> list[Step]:
    """Run every path of one iteration and add its proof obligations.

    :param entering: the paths that reach the loop from the routine's entry.
    :param single_flags: assume that each word has exactly one flag.
    :raises UnsupportedError: if the loop has a shape that the proof does not cover.
    """
    head = _head(routine, entering)
    head, explorer, iterations = _settle(routine, head, decide, single_flags)
    routine.collect(explorer)
    before = routine.machine(head)
    kinds = [is_kind(before.entry, kind) for kind in Kind]
    routine.require("step-kinds", "each word is of some kind of the list machine", (), Or(*kinds))
    for step in iterations:
        if ends_undefined(step):
            continue
        if isinstance(step.then, Exit):
            raise UnsupportedError("exit inside the loop over the list", step.state.trace[-1])
        for kind, extra in _kinds(routine, step, before.entry, decide):
            _require_step(routine, before, kind, extra, step)
            _require_lines(routine, before, kind, extra, step)
        if step.then == routine.variant.loop:
            _require_frame(routine, head, step)
    for state in (*(step.state for step in iterations), *explorer.iterations):
        require_table_changes(routine, state.events)
        _require_accesses(routine, before, state)
        _require_effects(routine, before, state.events)
        _require_invalidations(routine, before, state.events)
        _require_maintenance(routine, before, state.events)
    return [step for step in iterations if not ends_undefined(step)]


def _head(routine: Routine, entering: list[Step]) -> State:
    """Return a state at the loop's head: any list entry and memory; what no iteration changes is as at
    entry.
    """
    if len(entering) != 1:
        raise UnsupportedError(f"{len(entering)} paths to the loop over the list", routine.variant.loop)
    before = entering[0].state
    registers = unknown_registers(_TAG)
    unknown = State(registers, unknown_ghosts(_TAG), Unknown("M"), Lines("L"))
    iterations = routine.explorer(routine.stops, None).run(unknown, routine.variant.loop)
    back = [step.state for step in iterations if step.then == routine.variant.loop]
    fixed = {
        name: before.registers[name]
        for name, value in registers.items()
        if name not in routine.roles and all(same(state.registers[name], value) for state in back)
    }
    ghosts = {
        name: value if constant(value) is not None else unknown.ghosts[name]
        for name, value in before.ghosts.items()
    }
    return State({**registers, **fixed}, ghosts, Unknown("M"), Lines("L"), routine.assumptions())


def _settle(
    routine: Routine, head: State, decide: Decide, single_flags: bool
) -> tuple[State, Explorer, list[Step]]:
    """Run an iteration until none changes a ghost component that is taken as constant at the head."""
    known = _known(routine, head, single_flags)
    while True:
        explorer = routine.explorer(routine.stops, decide)
        iterations = explorer.run(head.assume(*known), routine.variant.loop)
        unstable = {
            name: var(f"{name}@{_TAG}", GHOSTS[name])
            for step in iterations
            if step.then == routine.variant.loop
            for name, value in head.ghosts.items()
            if constant(value) is not None and not decide(step.state.facts, step.state.ghosts[name] == value)
        }
        if not unstable:
            return head, explorer, iterations
        head = head.with_ghosts(**unstable)


def _known(routine: Routine, head: State, single_flags: bool) -> Facts:
    """Return what an iteration may assume of the list machine's state."""
    machine = routine.machine(head)
    return (
        ("the loop goes on for words without IND_DONE only", Not(done(machine.entry))),
        *list_assumptions(machine, single_flags),
        ("no word was lost so far", Lines("L").read(ANYWHERE) != cache.LOST),
    )


def list_assumptions(machine: ListMachine, single_flags: bool) -> Facts:
    """Return what is assumed of the list machine's state before it executes a word without IND_DONE.

    :param single_flags: the word has one flag only.
    """
    source = is_kind(machine.entry, Kind.SOURCE)
    indirect = is_kind(machine.entry, Kind.INDIRECTION)
    below = And(ult(machine.dest, const(TOP)), ult(machine.addr, const(TOP)))
    facts: Facts = (
        ("list-defined", Implies(source, aligned(machine.dest, machine.page_size))),
        ("list-defined", Or(indirect, aligned(machine.ptr, 8))),
        ("pages-below-top", Implies(source, below)),
    )
    return (*facts, ("list-one-flag", one_flag(machine.entry))) if single_flags else facts


def _until_fetch(state: State) -> Facts:
    """Return what was known when the next word was read, which is enough for memory and cache.

    The paths from there (the loop continues, or is left) share these facts, so they share the queries too.
    """
    return state.facts[: state.accesses[-1].known] if state.accesses else state.facts


def _kinds(routine: Routine, step: Step, entry: Term, decide: Decide) -> Iterator[tuple[Kind, Facts]]:
    """Yield the kinds of word that a path can be for, each with what that adds to its facts."""
    facts = _until_fetch(step.state)
    for kind in Kind:
        if decide(facts, is_kind(entry, kind)):
            sentence = f"this path runs only for a {kind} word"
            routine.require(f"step-{kind}", sentence, facts, is_kind(entry, kind), path=step.state.trace)
            yield kind, ()
            return
    for kind in Kind:
        yield kind, ((f"the word is a {kind} word", is_kind(entry, kind)),)


def _require_step(routine: Routine, before: ListMachine, kind: Kind, extra: Facts, step: Step) -> None:
    """Require that after the iteration registers and memory are those of the list machine."""
    state, page = step.state, routine.variant.page_size
    expected, after = before.iteration(kind), routine.machine(state)
    facts = (*state.facts, *extra)

    def require(part: str, sentence: str, goal: Formula, known: Facts = facts) -> None:
        routine.require(f"step-{kind}{part}", sentence, known, goal, path=state.trace)

    require("", f"a {kind} word leaves ptr as the list machine does", after.ptr == expected.ptr)
    require("", f"a {kind} word leaves dest as the list machine does", after.dest == expected.dest)
    for label, known, address in cases(state.memory, ANYWHERE):
        require(
            "-memory",
            f"a {kind} word leaves memory as the list machine does, {label}",
            state.memory.read(address) == expected.memory.read(address),
            (*_until_fetch(state), *extra, _ALIGNED, *known),
        )
    fetched = state.memory.read(before.act(kind).ptr)
    require(
        "-next",
        f"after a {kind} word the next one is read where the list machine reads it",
        after.entry == fetched,
    )
    goes_on = step.then == routine.variant.loop
    require(
        "-ends",
        f"after a {kind} word the loop is left exactly if the next one has IND_DONE",
        Not(done(after.entry)) if goes_on else done(after.entry),
    )
    set_before = Or(aligned(before.dest, page), is_kind(before.entry, Kind.DESTINATION))
    require(
        "-defined",
        f"after a {kind} word destination and pointer stay aligned",
        And(Implies(set_before, aligned(after.dest, page)), aligned(after.ptr, 8)),
    )


def _require_frame(routine: Routine, head: State, step: Step) -> None:
    """Require that registers and ghost state are again as the loop's head assumes."""
    state = step.state
    kept = [
        state.registers[name] == value
        for name, value in head.registers.items()
        if name not in routine.roles and not same(value, var(f"{name}@{_TAG}", value.length))
    ]
    kept += [state.ghosts[name] == v for name, v in head.ghosts.items() if constant(v) is not None]
    sentence = "an iteration keeps every register and ghost component that later code relies on"
    routine.require("step-frame", sentence, state.facts, And(*kept), path=state.trace)


def _require_accesses(routine: Routine, before: ListMachine, state: State) -> None:
    """Require that each access is to the next word, the source page or the destination page."""
    page = routine.variant.page_size
    source = is_kind(before.entry, Kind.SOURCE)
    for access in state.accesses:
        if access.kind == "load":
            fetch = Or(*(And(is_kind(before.entry, k), access.address == before.act(k).ptr) for k in Kind))
            copied = And(source, within(access.address, before.addr, page))
            routine.require_access(
                access, "reads the next word of the list or the source page", Or(fetch, copied)
            )
        else:
            written = And(source, within(access.address, before.dest, page))
            routine.require_access(access, "writes the destination page", written)
        require_translated(routine, access)
        require_mapped_access(routine, access, "the copy of the linear map", routine.selects_copy)
        if access.kind == "load":
            state_of_word = access.before.lines.read(access.address)
            routine.require(
                "access-of-kept-word",
                f"the load at {routine.code.where(access.at)} is of no word that was invalidated while dirty",
                access.before.facts[: access.known],
                Implies(Lines("L").read(access.address) != cache.LOST, state_of_word != cache.LOST),
                access.at,
            )


def _require_effects(routine: Routine, before: ListMachine, events: Iterable[Event]) -> None:
    """Require that effects are allowed; for a SOURCE word, maintenance of its two pages is too."""
    variant, source = routine.variant, is_kind(before.entry, Kind.SOURCE)
    routine.require_effects(
        events, copies_page(source, before.dest, before.addr, variant.page_size, variant.kimage)
    )


def _require_invalidations(routine: Routine, before: ListMachine, events: Iterable[Event]) -> None:
    """Require that DC IVAC discards only what is about to be overwritten."""
    page = routine.variant.page_size
    for event in events:
        if event.name == "DC_IVAC":
            line = cache.line(event.operands[0])
            last = line + cache.line_size() - 1
            where = routine.code.where(event.at)
            routine.require(
                "clean-to-poc-inval",
                f"the invalidation at {where} touches lines of the destination page only",
                event.before.facts[: event.known],
                And(within(line, before.dest, page), within(last, before.dest, page)),
                event.at,
            )


def _require_maintenance(routine: Routine, before: ListMachine, events: Iterable[Event]) -> None:
    """Require that maintenance stays in a SOURCE word's pages, which the kimage's table maps."""
    page = routine.variant.page_size

    def mapped(address: Term) -> Formula:
        copied = Or(within(address, before.dest, page), within(address, before.addr, page))
        return And(is_kind(before.entry, Kind.SOURCE), copied)

    require_mapped(routine, events, "the source page or the destination page", mapped)


def _require_lines(routine: Routine, before: ListMachine, kind: Kind, extra: Facts, step: Step) -> None:
    """Require that the destination page is clean after the iteration, and that clean words stay clean."""
    state = step.state
    after = state.lines.read(ANYWHERE)
    facts = (*_until_fetch(state), *extra, _ALIGNED)

    def require(name: str, sentence: str, goal: Formula, known: Facts = ()) -> None:
        routine.require(name, sentence, (*facts, *known), goal, path=state.trace)

    if kind is Kind.SOURCE:
        inside = within(ANYWHERE, before.dest, routine.variant.page_size)
        require(
            "clean-to-poc",
            "after a source word every word of the destination page is clean to PoC",
            Implies(inside, after == cache.CLEAN),
        )
    require("clean-to-poc-kept", f"a {kind} word loses nothing that a cache holds", after != cache.LOST)
    require(
        "clean-to-poc-kept",
        f"a {kind} word leaves clean what was clean",
        after == cache.CLEAN,
        (("the word was clean", Lines("L").read(ANYWHERE) == cache.CLEAN),),
    )
