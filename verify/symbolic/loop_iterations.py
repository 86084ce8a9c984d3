"""Loops of C code: a state at the loop's head after any number of iterations, inferred and then proved.

A register grows by a constant in each iteration, keeps its value, or is unknown. Nothing
inferred is trusted: that an iteration preserves the definition is an obligation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kexec_verify.arm64.cache import Lines
from kexec_verify.arm64.execute import Step
from kexec_verify.arm64.state import GHOSTS, State
from kexec_verify.errors import LimitError, UnsupportedError
from kexec_verify.logic import And, Formula, Term, const, normal, offset_from, same, var, variables
from kexec_verify.obligation import Facts
from kexec_verify.symbolic.explore import Decide
from kexec_verify.symbolic.join import join
from kexec_verify.symbolic.objects import Object, Objects
from kexec_verify.symbolic.segments import Segment

_ROUNDS = 8

type Run = Callable[[State, bool], list[Step]]
"""Every path from the head: those back to it, and those that leave the loop.

The flag says that they are run for a guess: a path may then end early where it may be unreachable.
"""

type Candidates = Callable[[State, Term, State], Facts]
"""Candidate invariants at the head, from the number of iterations and the entry state."""

type Assumed = Callable[[State, Term], Facts]
"""Assumptions about the state at the head after a number of iterations."""

type Pointed = Callable[[Term], Facts]
"""Assumptions about a pointer of unknown value through which an iteration reads."""


@dataclass(frozen=True)
class LoopIterations:
    """A loop's head after ``count`` iterations.

    :param growing: registers that grow, and by how much in each iteration.
    :param invariants: what holds there, a function of the number of iterations.
    """

    head: int
    start: State
    count: Term
    growing: dict[str, int]
    unknown: frozenset[str]
    candidates: Candidates
    kept: frozenset[str]
    pointed: int
    assumed: Assumed
    pointers: Facts = ()

    @property
    def tag(self) -> str:
        """The tag in the names of its variables."""
        return f"{self.head:#x}"

    def state(self, count: Term) -> State:
        """Return the state at the head after ``count`` iterations."""
        registers = dict(self.start.registers)
        for name, step in self.growing.items():
            registers[name] = normal(registers[name] + count * const(step))
        memory = self.start.memory
        for name in sorted(self.unknown):
            registers[name] = var(f"{name}@{self.tag}", registers[name].length)
            if name.startswith("x") and isinstance(memory, Objects):
                memory = memory.adding(Object(_pointee(name), registers[name], 0, self.pointed))
        ghosts = {name: var(f"{name}@{self.tag}", width) for name, width in GHOSTS.items()}
        lines, fetch = Lines(f"L@{self.tag}"), Lines(f"F@{self.tag}")
        facts = (*self.start.facts, *self.pointers)
        state = State(registers, ghosts, memory, lines, facts, fetch=fetch)
        return state.assume(*self.assumed(state, count))

    def segment(self, paths: Sequence[Step]) -> Segment:
        """Return what was explored from the head."""
        start = self.state(self.count)
        bound = ((self.start, f"{self.tag}/entry"), (start, self.tag))
        return Segment(self.head, start, tuple(paths), bound, str(self.count.args[0]), self.kept)

    def invariants(self, state: State, count: Term) -> Facts:
        """Return the candidates that were kept."""
        return tuple(fact for fact in self.candidates(state, count, self.start) if fact[0] in self.kept)

    def agrees(self, after: State) -> Formula:
        """Require that a state back at the head is the definition's, one iteration later."""
        later = self.state(self.count + 1).registers
        names = [name for name in later if name not in self.unknown]
        return And(*(after.registers[name] == later[name] for name in names))


def infer_iterations(
    head: int,
    arrivals: Sequence[State],
    run: Run,
    candidates: Callable[[frozenset[str], frozenset[str]], Candidates],
    decide: Decide,
    pointed: int,
    pointer: Pointed,
    assumed: Assumed,
) -> tuple[LoopIterations, list[Step]]:
    """Return the loop at ``head`` that ``arrivals`` enter, and the paths from its head under its invariants.

    :param candidates: the candidates of a loop in which nothing is known of the first registers, of which
        an iteration reads the second.
    :param pointed: bytes that a pointer of unknown value is taken to point at.
    :param pointer: assumptions about such a pointer.
    :param assumed: what is assumed at the head.
    :raises UnsupportedError: if an iteration changes memory, by a store or by a call.
    """
    start = join(arrivals, f"{head:#x}/entry")
    count = var(f"iterations@{head:#x}")
    iterations = LoopIterations(head, start, count, {}, frozenset(), _none, frozenset(), pointed, assumed)
    for _ in range(_ROUNDS):
        state = iterations.state(count)
        back = [step.state for step in run(state, True) if step.then == head]
        found = _demote(iterations, state, back)
        if found == iterations:
            break
        iterations = found
    else:
        raise LimitError(f"the loop at {head:#x} did not settle in {_ROUNDS} rounds")
    looked_at = run(iterations.state(count), True)
    live = _live(iterations, looked_at)
    iterations = replace(iterations, candidates=candidates(iterations.unknown, live))
    iterations = replace(iterations, pointers=_pointers(iterations, looked_at, pointer))
    iterations = _filter(iterations, arrivals, run, decide)
    state = iterations.state(count)
    paths = run(state.assume(*iterations.invariants(state, count)), False)
    if any(step.state.memory is not state.memory for step in paths if step.then == head):
        raise UnsupportedError("loop that stores", head)
    return iterations, paths


def _pointers(iterations: LoopIterations, paths: Sequence[Step], pointer: Pointed) -> Facts:
    """Return the assumptions about unknown registers through which some path from the head reads."""
    read: set[str] = set()
    for step in paths:
        for access in step.state.accesses:
            memory = access.before.memory
            if isinstance(memory, Objects):
                read.add(memory.find(access.address)[0].name)
    registers = iterations.state(iterations.count).registers
    used = [name for name in sorted(iterations.unknown) if _pointee(name) in read]
    return tuple(fact for name in used for fact in pointer(registers[name]))


def _live(iterations: LoopIterations, paths: Sequence[Step]) -> frozenset[str]:
    """Return the unknown general registers whose value at the head some path from there depends on."""
    terms: list[Term | Formula] = []
    for step in paths:
        state = step.state
        terms += [fact for _, fact in state.facts]
        terms += [access.address for access in state.accesses]
        terms += [operand for event in state.events for operand in event.operands]
    read = set(variables(terms))
    registers = iterations.state(iterations.count).registers
    return frozenset(n for n in iterations.unknown if n.startswith("x") and str(registers[n].args[0]) in read)


def _none(state: State, count: Term, start: State) -> Facts:
    return ()


def _pointee(register: str) -> str:
    return f"what {register} points at"


def _demote(iterations: LoopIterations, before: State, back: Sequence[State]) -> LoopIterations:
    """Return the definition with registers that an iteration changes made growing, or unknown."""
    growing, unknown = dict(iterations.growing), set(iterations.unknown)
    for name, value in before.registers.items():
        if name in unknown:
            continue
        later = normal(value + growing[name]) if name in growing else value
        if all(same(normal(after.registers[name]), later) for after in back):
            continue
        steps = (
            {offset_from(after.registers[name], value) for after in back} if value.length == 64 else {None}
        )
        step = steps.pop()
        if name not in growing and not steps and step:
            growing[name] = step
        else:
            growing.pop(name, None)
            unknown.add(name)
    return replace(iterations, growing=growing, unknown=frozenset(unknown))


def _filter(
    iterations: LoopIterations, arrivals: Sequence[State], run: Run, decide: Decide
) -> LoopIterations:
    """Return the candidates that hold on entry and that an iteration preserves (Houdini)."""
    kept = {
        label
        for label, formula in iterations.candidates(
            iterations.state(iterations.count), iterations.count, iterations.start
        )
        if all(
            decide(state.facts, dict(iterations.candidates(state, const(0), iterations.start))[label])
            for state in arrivals
        )
    }
    while True:
        iterations = replace(iterations, kept=frozenset(kept))
        state = iterations.state(iterations.count)
        back = [
            step.state
            for step in run(state.assume(*iterations.invariants(state, iterations.count)), True)
            if step.then == iterations.head
        ]
        survivors = {
            label
            for label in kept
            if all(
                decide(
                    after.facts,
                    dict(iterations.candidates(after, normal(iterations.count + 1), iterations.start))[label],
                )
                for after in back
            )
        }
        if survivors == kept:
            return iterations
        kept = survivors
