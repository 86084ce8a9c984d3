"""Execute every path between cutpoints, with inner loops replaced by their effect.

A path ends at a stop (a cutpoint that the caller names) or where control leaves the
function. Inner loops are entered at their head with any progress that their proved
invariants allow, so a path crosses a loop once, whatever the number of iterations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from dataclasses import replace as altered

from kexec_verify.arm64.execute import Exit, Step, execute
from kexec_verify.arm64.lift import Code, Loop, loops
from kexec_verify.arm64.state import Event, State
from kexec_verify.errors import LimitError, UnsupportedError
from kexec_verify.logic import And, Formula, If, Not, Term, aligned, const, normal, replace, same, ult, var
from kexec_verify.memory import cases
from kexec_verify.obligation import Facts, Obligation
from kexec_verify.symbolic.detours import JOINED, comes_back, representing
from kexec_verify.symbolic.loops import Entered, Shape, generic_state, infer
from kexec_verify.symbolic.objects import STACK_FRAME, Objects

MAX_PATHS = 4096  # paths between two cutpoints; more is a LimitError, never a dropped path

MAX_ENTRIES = 4  # of one loop on a path between two cutpoints

MAX_STEPS = 4096  # instructions of one path

ANYWHERE = var("a")
"""An arbitrary word address: what holds of it holds of every word."""

type Leave = Callable[[Step], "list[Step] | None"]
"""Returns the state after a call, a tail call or a brk out of the function; None if the path ends."""

type Decide = Callable[[Facts, Formula], bool]
"""Returns whether hypotheses imply a goal; used to filter candidates, never to prove."""


def joined(steps: list[Step], before: State) -> list[Step]:
    """Merge both sides of a conditional select into one step that chooses registers by the condition."""
    if len(steps) != 2 or steps[0].then != steps[1].then or isinstance(steps[0].then, Exit):
        return steps
    left, right = (step.state for step in steps)
    others = ("ghosts", "memory", "lines", "fetch", "accesses", "events")
    chosen = all(getattr(left, name) is getattr(right, name) for name in others)
    if not chosen or not len(left.facts) == len(right.facts) == len(before.facts) + 1:
        return steps
    condition = left.facts[-1][1]
    registers = {
        name: value if same(value, right.registers[name]) else If(condition, value, right.registers[name])
        for name, value in left.registers.items()
    }
    return [altered(steps[0], state=altered(left, registers=registers, facts=before.facts))]


@dataclass
class Explorer:
    """Explores one function.

    :param decide: filters loop invariants; with None, loops have no invariants.
    :param bounds: sizes in bytes that a loop's progress may stay below.
    :param prefix: of the names of obligations on loops.
    :param leave: the effect of a call; without one every step out of the function ends its path.
    :param prune: leave out a side of a branch that cannot be taken, with a proof obligation that says so;
        where a branch enters a loop again, such a side is always left out.
    :param chosen: what is known at an address where a static key decides, if the key is set or not.
    :param harmless: whether a call is one of which nothing depends on that it was made.
    :param unroll: unroll loops; for code whose loops have constant bounds.
    """

    code: Code
    stops: frozenset[int]
    decide: Decide | None = None
    bounds: tuple[int, ...] = ()
    prefix: str = ""
    leave: Leave | None = None
    unroll: bool = False
    prune: bool = False
    chosen: Callable[[int, bool], Facts] = lambda at, is_set: ()
    harmless: Callable[[Event], bool] = lambda event: False
    obligations: list[Obligation] = field(default_factory=list)
    entered: list[Entered] = field(default_factory=list)
    iterations: list[State] = field(default_factory=list)  # one of each crossed loop, for its accesses
    covered: set[int] = field(default_factory=set)
    current: Step | None = None  # the current instruction, for error messages
    _shapes: dict[int, Shape] = field(default_factory=dict)
    _forgotten: int = 0  # how often registers were forgotten where two ways meet

    def __post_init__(self) -> None:
        self._loops: dict[int, Loop] = (
            {} if self.unroll else {loop.head: loop for loop in loops(self.code, self.stops)}
        )

    def run(self, state: State, start: int) -> list[Step]:
        """Return every path from ``start`` to a stop or out of the function."""
        ends = []
        todo = [Step(state, start)]
        first = True
        while todo:
            step = self.current = todo.pop()
            if isinstance(step.then, int) and step.then not in self.code and self.code.calls:
                step = Step(step.state, Exit("br", const(step.then)))
            at = step.then
            if isinstance(at, Exit):
                further = self.leave(step) if self.leave else None
                if further is None:
                    ends.append(step)
                else:
                    todo.extend(further)
            elif not first and at in self.stops:
                ends.append(step)
            elif at in self._loops and at not in self.stops:
                todo.extend(self._cross(at, step.state))
            else:
                self.covered.add(at)
                steps = self._execute(at, step.state)
                if at in self.code.either:
                    todo.extend(self._both_ways(steps, step.state, ends))
                else:
                    todo.extend(self._taken(steps, step.state))
            first = False
            if len(step.state.trace) > MAX_STEPS:
                where = self.code.where(start)
                raise LimitError(f"a path of more than {MAX_STEPS} instructions from {where}")
            if len(ends) + len(todo) > MAX_PATHS:
                raise LimitError(f"more than {MAX_PATHS} paths from {self.code.where(start)}")
        return ends

    def _execute(self, at: int, state: State) -> list[Step]:
        """Execute the instruction at ``at``; stack bytes that it pops, of either stack, become unknown."""
        steps = []
        ways = self.code.ways(at)
        executed = [(way, step) for way in ways for step in execute(way, state, self.code.el)]
        for way, step in executed:
            after = step.state
            if len(ways) > 1:
                facts = self.chosen(at, way is ways[1])
                after = altered(after, facts=(*after.facts, *facts))
                step = altered(step, state=after)
            if isinstance(after.memory, Objects):
                memory = after.memory.pushed(after.registers["x18"])
                if not same(after.sp, state.sp):
                    memory = memory.popped(STACK_FRAME, state.sp, after.sp)
                if memory is not after.memory:
                    step = altered(step, state=altered(after, memory=memory))
            steps.append(step)
        return steps if self.code.calls else joined(steps, state)

    def _both_ways(self, steps: list[Step], before: State, ends: list[Step]) -> list[Step]:
        """Return the steps to follow of ``steps``, the two ways of one instruction.

        If one way comes straight to where the other begins, it ends there, and the other represents both.
        """
        if len(steps) != 2:
            raise UnsupportedError("a static key's instruction that is no plain branch", before.trace[-1])
        cuts = {*self.stops, *self._loops}
        for plain, other in (steps, reversed(steps)):
            to = plain.then
            if not isinstance(to, int) or not isinstance(other.then, int) or other.then == to:
                continue
            if not comes_back(self.code, other.then, to, cuts):
                continue
            arrivals, apart = self._until(other, to)
            self._forgotten += 1
            tag = f"either {self._forgotten}"
            states = [step.state for step in arrivals]
            joined = representing(self.code, to, plain.state, states, self.harmless, tag)
            if joined is None:
                return [*arrivals, *apart, plain]
            ends += [*(Step(state, Exit(JOINED, const(to))) for state in states), *apart]
            return [Step(joined, to)]
        return steps[::-1]  # the way that is taken where the key is not set is followed first

    def _until(self, step: Step, to: int) -> tuple[list[Step], list[Step]]:
        """Return the ends of the paths from ``step``: at the address ``to``, and before it."""
        arrivals, apart = [], []
        todo = [step]
        while todo:
            step = self.current = todo.pop()
            if step.then == to:
                arrivals.append(step)
            elif isinstance(step.then, Exit):
                further = self.leave(step) if self.leave else None
                todo += further or []
                apart += [step] if further is None else []
            else:
                self.covered.add(step.then)
                todo += self._taken(self._execute(step.then, step.state), step.state)
            if len(arrivals) + len(apart) + len(todo) > MAX_PATHS:
                raise LimitError(f"more than {MAX_PATHS} paths to {self.code.where(to)}")
        return arrivals, apart

    def _taken(self, steps: list[Step], before: State) -> list[Step]:
        """Return the sides of a branch that can be taken; add an obligation that the others cannot."""
        if self.decide is None or len(steps) < 2 or not (self.prune or self._enters_again(steps)):
            return steps
        found: list[Step] = []
        for number, step in enumerate(steps, 1):
            goal = Not(And(*(fact for _, fact in step.state.facts[len(before.facts) :])))
            # If no other side can be taken, the last one is; that needs no query.
            last = number == len(steps) and not found
            if not last and self.decide(before.facts, goal):
                at = step.state.trace[-1]
                label = step.state.facts[-1][0]
                sentence = f"it never is that: {label.replace(hex(at), self.code.where(at))}"
                required = Obligation(f"{self.prefix}untaken", sentence, before.facts, goal, at)
                self.obligations.append(required)
            else:
                found.append(step)
        return found

    def _enters_again(self, steps: list[Step]) -> bool:
        """Return whether a side of the branch enters a loop again that the path has left."""
        at = steps[0].state.trace[-1]
        heads = [self._loops[step.then] for step in steps if step.then in self._loops]
        return any(at in loop.body and not loop.goes_round(at) for loop in heads)

    def _iteration(self, head: int, state: State) -> tuple[list[Step], list[Step]]:
        """Return the paths of one iteration: those back to the loop's head, and those that leave the loop."""
        body = self._loops[head].inner
        if any(inner in body and inner != head for inner in self._loops):
            raise UnsupportedError("loop within an inner loop", head)
        back, leaving = [], []
        todo = [Step(state, head)]
        first = True
        while todo:
            step = todo.pop()
            if step.then == head and not first:
                back.append(step)
            elif isinstance(step.then, Exit) or step.then not in body:
                leaving.append(step)
            else:
                self.covered.add(step.then)
                todo.extend(self._execute(step.then, step.state))
            first = False
        return back, leaving

    def shape(self, head: int) -> Shape:
        """Return the effect of one iteration of the loop at ``head``.

        :raises UnsupportedError: if it has no supported shape.
        """
        if head not in self._shapes:
            state = generic_state()
            back, _ = self._iteration(head, state)
            if len(back) != 1:
                raise UnsupportedError(f"loop with {len(back)} paths back to its head", head)
            self._shapes[head] = infer(head, state, back[0].state)
        return self._shapes[head]

    def _cross(self, head: int, state: State) -> list[Step]:
        """Return the steps that leave the loop at ``head``, entered in ``state``.

        :raises UnsupportedError: if the path has entered it too often.
        """
        if state.trace.count(head) >= MAX_ENTRIES:
            raise UnsupportedError(f"loop that is entered again more than {MAX_ENTRIES} times", head)
        shape = self.shape(head)
        loop = Entered.at(shape, state, f"{head:#x}/{len(self.entered)}")
        self.entered.append(loop)
        back, _ = self._iteration(head, loop.state(loop.progress))
        if len(back) != 1:
            raise UnsupportedError(f"loop with {len(back)} paths back to its head", head)
        iteration = back[0].state
        invariants = self._invariants(loop, iteration) if self.decide else ()
        start = loop.state(loop.progress).assume(*invariants)
        if self.decide:
            back, _ = self._iteration(head, start)
            self._keep(loop, invariants, start, back[0].state)
        self.iterations.append(back[0].state)
        _, leaving = self._iteration(head, start)
        return leaving

    def _invariants(self, loop: Entered, iteration: State) -> Facts:
        """Return the candidates that hold on entry and that an iteration preserves (Houdini)."""
        assert self.decide is not None
        entry = loop.entry.facts
        guard = iteration.facts[len(entry) :]
        kept = [
            candidate
            for candidate in loop.candidates(iteration, self.bounds)
            if self.decide(entry, self._at(loop, candidate[1], None))
        ]
        while True:
            hypotheses = (*entry, *kept, *guard)
            survivors = [c for c in kept if self.decide(hypotheses, self._at(loop, c[1], loop.stride))]
            if len(survivors) == len(kept):
                return tuple(kept)
            kept = survivors

    @staticmethod
    def _at(loop: Entered, formula: Formula, step: Term | None) -> Formula:
        """Return ``formula`` with the progress at entry (``step`` is None) or one ``step`` later."""
        later = loop.progress * 0 if step is None else loop.progress + step
        return replace(formula, loop.progress, later)

    def _keep(self, loop: Entered, invariants: Facts, start: State, iteration: State) -> None:
        """Make the obligations that the loop state's definition holds at first and is preserved."""
        name = f"{self.prefix}{loop.shape.name}"
        where = self.code.where(loop.shape.head)
        later = loop.state(normal(loop.progress + loop.stride))
        entry = loop.entry.facts

        def require(kind: str, sentence: str, hypotheses: Facts, goal: Formula) -> None:
            self.obligations.append(
                Obligation(f"{name}-{kind}", sentence, hypotheses, goal, loop.shape.head, iteration.trace)
            )

        for label, formula in invariants:
            require("init", f"on entry to the loop at {where}: {label}", entry, self._at(loop, formula, None))
            require(
                "kept",
                f"an iteration of the loop at {where} keeps: {label}",
                iteration.facts,
                self._at(loop, formula, loop.stride),
            )
        same = [
            later.registers[register] == value
            for register, value in iteration.registers.items()
            if register not in loop.shape.clobbered
        ] + [
            later.ghosts[ghost] == value
            for ghost, value in iteration.ghosts.items()
            if ghost not in loop.shape.ghosts or loop.shape.ghosts[ghost] is not None
        ]
        require(
            "kept",
            f"an iteration of the loop at {where} leaves the registers as its definition says",
            iteration.facts,
            And(*same),
        )
        if loop.shape.copied:
            for label, known, address in cases(iteration.memory, ANYWHERE):
                require(
                    "kept",
                    f"an iteration of the loop at {where} leaves memory as its definition says, {label}",
                    (*iteration.facts, ("the word is aligned", aligned(ANYWHERE, 8)), *known),
                    iteration.memory.read(address) == later.memory.read(address),
                )
        if loop.shape.copied or loop.shape.maintained:
            require(
                "kept",
                f"an iteration of the loop at {where} leaves cache lines as its definition says, at any word",
                (*iteration.facts, ("the word is aligned", aligned(ANYWHERE, 8))),
                And(
                    iteration.lines.read(ANYWHERE) == later.lines.read(ANYWHERE),
                    iteration.fetch.read(ANYWHERE) == later.fetch.read(ANYWHERE),
                ),
            )
        require(
            "terminates",
            f"each iteration of the loop at {where} makes progress towards 2^64 bytes",
            iteration.facts,
            ult(loop.progress, normal(loop.progress + loop.stride)),
        )
