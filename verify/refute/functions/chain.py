"""Build whole paths, from a function's entry to the point of an obligation, from explored segments.

A later segment starts in variables of its own. Here they are bound to the terms that the segment before it
ends in. So a whole chain is expressed in the entry state and in callees' answers. Events in a loop get
names of their own for each iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from kexec_verify.arm64.cache import Lines, LineState
from kexec_verify.arm64.execute import Exit, Step
from kexec_verify.arm64.lift import Code
from kexec_verify.arm64.state import FLAGS, GENERAL, SYSTEM, Access, Event, State
from kexec_verify.kexec.context import KexecContext
from kexec_verify.logic import Formula, Function, Term, application, const, same, var
from kexec_verify.obligation import Facts, Obligation
from kexec_verify.refute.functions.layout import placed, region
from kexec_verify.substitute import Substitution
from kexec_verify.symbolic.objects import Objects
from kexec_verify.symbolic.segments import Segment

LINKS = 5  # segments of a chain at most
ITERATIONS = 2  # of each loop at most
MEMORY = "memory"
"""All objects are one memory here, for each has a place of its own."""


class Proof(Protocol):
    """A proof of one function whose segments were kept."""

    context: KexecContext
    code: Code
    segments: list[Segment]


@dataclass(frozen=True)
class Place:
    """The point of an obligation: its segment and state, and how the path continues.

    :param kind: ``end`` of a path, or an ``access`` or ``event`` on one, which is the state's next.
    """

    segment: int
    state: State
    kind: str
    then: int | Exit | None = None
    subject: Access | Event | None = None


def places(proof: Proof, obligation: Obligation) -> Iterator[Place]:
    """Yield the points of ``obligation``, one for each group of paths that are equal up to there."""
    for number, segment in enumerate(proof.segments):
        for step in segment.ends:
            at_end = obligation.path and step.state.trace == obligation.path
            if at_end or (obligation.subject is step.state):
                yield Place(number, step.state, "end", step.then)
        yield from _inner(number, segment, obligation)


def _inner(number: int, segment: Segment, obligation: Obligation) -> Iterator[Place]:
    wanted = [(label, fact.hash()) for label, fact in obligation.hypotheses]
    asked = obligation.subject
    seen: set[tuple[str, tuple[int, ...], int]] = set()
    for step in segment.ends:
        subjects: tuple[Access | Event, ...] = (*step.state.accesses, *step.state.events)
        for subject in subjects:
            kind = "access" if isinstance(subject, Access) else "event"
            before = subject.before
            key = (kind, before.trace, len(before.accesses))
            if subject.at != obligation.at or key in seen or (asked is not None and subject is not asked):
                continue
            seen.add(key)
            if asked is not None:
                yield Place(number, before, kind, None, subject)
                continue
            if obligation.path:
                if kind == "event" and before.trace == obligation.path:
                    yield Place(number, before, kind, None, subject)
                continue
            facts = [(label, fact.hash()) for label, fact in before.facts[: subject.known]]
            if facts == wanted:
                yield Place(number, before, kind, None, subject)


def routes(segments: list[Segment], last: int) -> Iterator[tuple[tuple[int, Step], ...]]:
    """Yield paths from the entry to segment ``last``, short ones first, as the path to take in each
    segment.
    """
    layer: list[tuple[tuple[int, Step], ...]] = [()]
    for _ in range(LINKS):
        longer: list[tuple[tuple[int, Step], ...]] = []
        for route in layer:
            first = route[0][0] if route else last
            if first == 0:
                yield route
            for number, segment in enumerate(segments):
                if sum(1 for used, _ in route if used == number) >= (ITERATIONS if number else 1):
                    continue
                at = segments[first].at
                arriving = [step for step in segment.ends if step.then == at and first]
                longer += [((number, step), *route) for step in arriving]
        layer = longer


@dataclass(frozen=True)
class Link:
    """One segment of a chain: the state at its end, in the chain's own terms (``bind``)."""

    segment: Segment
    state: State
    bind: Substitution


class Chain:
    """A path from the entry to a place.

    :ivar reads: what is read of objects: the object's name and the address.
    :ivar agreed: what must hold for a segment to start where the one before it ended.
    """

    def __init__(self, proof: Proof, route: tuple[tuple[int, Step], ...], place: Place):
        self.proof, self.place = proof, place
        self.reads: dict[tuple[str, int], tuple[str, Term]] = {}
        self.lines: dict[int, Term] = {}  # applications of the line states at entry
        self.agreed: Facts = ()
        self.links: list[Link] = []
        self._names: dict[str, Term] = placed(proof.context, proof.segments[0].start)
        self._functions: dict[str, Callable[[Term], Term]] = {}
        self._visits: dict[str, int] = {}  # tag of a call -> the link that made it
        seen: dict[int, int] = {}
        for number, step in route:
            self._link(number, step.state, seen)
        self._link(place.segment, place.state, seen)
        self.facts: Facts = (*self._known(), *self.agreed)

    @property
    def trace(self) -> tuple[int, ...]:
        """Return every instruction, in order."""
        return tuple(at for link in self.links for at in link.state.trace)

    @property
    def bind(self) -> Substitution:
        """Return the substitution from the last segment's terms to those of the chain."""
        return self.links[-1].bind

    @property
    def accesses(self) -> list[tuple[Link, Access]]:
        """Return every load and store up to the place, its own included."""
        found = [(link, access) for link in self.links for access in link.state.accesses]
        subject = self.place.subject
        return [*found, (self.links[-1], subject)] if isinstance(subject, Access) else found

    @property
    def events(self) -> list[tuple[Link, Event]]:
        """Return every system instruction, call and WARN up to the place, its own included."""
        found = [(link, event) for link in self.links for event in link.state.events]
        subject = self.place.subject
        return [*found, (self.links[-1], subject)] if isinstance(subject, Event) else found

    def _link(self, number: int, state: State, seen: dict[int, int]) -> None:
        segment, position = self.proof.segments[number], len(self.links)
        before = self.links[-1] if self.links else None
        visits = seen.get(number, 0)
        if before is not None:
            bound = segment.bound if not visits else segment.bound[-1:]
            for start, tag in bound:
                self._bind(start, tag, before)
            if segment.iterations is not None:
                self._names = {**self._names, segment.iterations: const(visits)}
        seen[number] = visits + 1
        made = [event.tag for event in state.events if event.tag is not None]
        self._visits = {**self._visits, **dict.fromkeys(made, position)}
        link = Link(segment, state, self._substitution())
        for name, value in state.forgotten:
            self._names = {**self._names, name: link.bind(value)}
            link = Link(segment, state, self._substitution())
        self.links.append(link)
        if before is not None:
            self._agree(link, before)

    def _bind(self, start: State, tag: str, before: Link) -> None:
        """Bind variables named after ``tag`` to what the segment before ended with."""
        names, end = dict(self._names), before.state

        def one(term: Term, value: Term) -> None:
            if term.op == "BVS" and application(term) is None and str(term.args[0]).endswith(f"@{tag}"):
                names[term.args[0]] = before.bind(value)

        for name, term in start.registers.items():
            one(term, end.registers[name])
        for name, term in start.ghosts.items():
            one(term, end.ghosts[name])
        if isinstance(start.memory, Objects) and isinstance(end.memory, Objects):
            known = {item.name for item in end.memory.objects}
            for item in start.memory.objects:
                if item.name not in known:
                    continue
                base = const(0) if item.base is None else item.base
                for offset, byte in start.memory.stored_in(item.name).items():
                    one(byte, end.memory.load(base + offset, 1))
        functions = dict(self._functions)
        for line, found in ((start.lines, end.lines), (start.fetch, end.fetch)):
            if isinstance(line, Lines) and line.name.endswith(f"@{tag}"):
                functions[line.name] = _reader(before.bind, found)
        self._names, self._functions = names, functions

    def _substitution(self) -> Substitution:
        names, functions, visits = self._names, self._functions, self._visits

        def variable(name: str, width: int) -> Term | None:
            if name in names:
                return names[name]
            link = visits.get(name.rpartition("@")[2])
            return None if link is None else var(f"{name}~{link}", width)

        def apply(name: str, width: int, arguments: tuple[Term, ...]) -> Term | None:
            if name in functions:
                return functions[name](arguments[0])
            if name == "signed":
                return arguments[0]  # the CPU of these runs has no pointer authentication
            if name.startswith("L@"):
                result = Function(name, width)(*arguments)
                self.lines[result.hash()] = result
                return result
            item = name.removesuffix("@entry")
            if item == name or len(arguments) != 1:
                return None
            self.reads[item, arguments[0].hash()] = (item, arguments[0])
            return Function(MEMORY)(arguments[0])

        return Substitution(variable, apply)

    def _agree(self, link: Link, before: Link) -> None:
        """Require that the definition of the start is what the segment before ended with."""
        start, end = link.segment.start.registers, before.state.registers
        for name in (*GENERAL, "sp", *FLAGS, *SYSTEM):
            left, right = link.bind(start[name]), before.bind(end[name])
            if not same(left, right):
                self.agreed = (*self.agreed, (f"{name} is as the path before left it", left == right))

    def _known(self) -> Facts:
        found: dict[tuple[str, int], tuple[str, Formula]] = {}
        for link in self.links:
            for label, fact in link.state.facts:
                if label not in link.segment.guessed:
                    bound = link.bind(fact)
                    if not bound.is_true():
                        found[label, bound.hash()] = (label, bound)
        return tuple(found.values())

    def regions(self) -> Facts:
        """Each object's words are read within the object."""
        context = self.proof.context
        return tuple(
            (f"the word is one of {item}", region(context, item, address))
            for item, address in list(self.reads.values())
            if address.op != "BVV"
        )


def _reader(bind: Substitution, lines: LineState) -> Callable[[Term], Term]:
    return lambda address: bind(lines.read(address))


def chains(proof: Proof, place: Place, most: int) -> Iterator[Chain]:
    """Yield paths to ``place``, short ones first, at most ``most`` of them."""
    for count, route in enumerate(routes(proof.segments, place.segment)):
        if count >= most:
            return
        yield Chain(proof, route, place)
