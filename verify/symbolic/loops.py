"""Inner loops: the effect of an iteration, inferred from one symbolic iteration, then proved for all.

A loop of the supported shape advances some registers by a stride, leaves some alone
and clobbers the rest; it copies words between two advancing pointers, or maintains the
line at one, or touches no memory. After ``progress`` bytes its state is a *definition*
over the state in which the loop was entered. Nothing inferred here is trusted: that
an iteration preserves the definition is an obligation, and a wrong guess makes it fail.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

from kexec_verify.arm64.cache import Changed, Invalidated, Lines, Maintained, Stored
from kexec_verify.arm64.state import Event, State, unknown_ghosts, unknown_registers
from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import (
    If,
    Term,
    const,
    constant,
    difference,
    normal,
    offset_from,
    same,
    shift_right,
    ule,
    ult,
    var,
    variables,
)
from kexec_verify.logic import replace as substitute
from kexec_verify.memory import Unknown
from kexec_verify.obligation import Facts
from kexec_verify.parts_of_angr import claripy

_MAINTENANCE = {
    **{"DC_CIVAC": "civac", "DC_CVAC": "cvac", "DC_IVAC": "ivac"},
    **{"DC_CVAU": "cvau", "IC_IVAU": "ivau"},
}
_GENERIC = "iteration"


@dataclass(frozen=True)
class Pointer:
    """An address that the loop forms as a register of its head plus ``offset`` bytes."""

    register: str
    offset: int

    def address(self, state: State) -> Term:
        """Return the address in a state at the loop's head."""
        return normal(state.registers[self.register] + self.offset)


@dataclass(frozen=True)
class Shape:
    """The effect of one iteration of a loop.

    :param stride: bytes of progress, a term over the registers that an iteration does not change.
    :param advancing: registers that grow by a constant part or multiple of the stride.
    :param copied: destination and source of a copy.
    :param maintained: the address of a maintenance instruction, and its operation.
    :param ghosts: ghost components that every iteration sets to a constant; None is any value.
    """

    head: int
    stride: Term
    advancing: dict[str, Fraction]
    clobbered: frozenset[str]
    copied: tuple[Pointer, Pointer] | None
    maintained: tuple[Pointer, str] | None
    ghosts: dict[str, Term | None]

    @property
    def name(self) -> str:
        """The purpose of the loop: ``copy``, ``flush``, ``inval`` or ``scan``."""
        if self.copied:
            return "copy"
        if self.maintained:
            return "inval" if self.maintained[1] in ("ivac", "ivau") else "flush"
        return "scan"


def generic_state() -> State:
    """Return a state at a loop head in which everything is unknown."""
    return State(
        unknown_registers(_GENERIC), unknown_ghosts(_GENERIC), Unknown("M@iteration"), Lines("L@iteration")
    )


def infer(head: int, before: State, after: State) -> Shape:
    """Return the shape of the loop that takes ``before`` (generic) to ``after`` in one iteration.

    :raises UnsupportedError: if the loop has no supported shape.
    """
    unchanged, grown = _classify(before, after)
    stride = _stride(head, grown.values())
    advancing = {}
    for name, delta in grown.items():
        ratio = _ratio(delta, stride)
        if ratio is not None:
            advancing[name] = ratio
    events = after.events[len(before.events) :]
    stores = [access for access in after.accesses if access.kind == "store"]
    copied = _copied(head, before, after, advancing) if stores else None
    maintained = _maintained(head, before, events, advancing)
    if copied and maintained:
        raise UnsupportedError("loop that both copies and maintains", head)
    ghosts = {}
    for name, value in after.ghosts.items():
        if not same(value, before.ghosts[name]):
            ghosts[name] = value if constant(value) is not None else None
    clobbered = frozenset(before.registers) - set(advancing) - set(unchanged)
    return Shape(head, stride, advancing, clobbered, copied, maintained, ghosts)


def _classify(before: State, after: State) -> tuple[set[str], dict[str, Term]]:
    """Return unchanged registers, and those that grow by a term over unchanged registers."""
    unchanged = {n for n, value in after.registers.items() if same(value, before.registers[n])}
    fixed = {before.registers[name].args[0] for name in unchanged}
    grown = {}
    for name, value in after.registers.items():
        if name in unchanged or value.length != 64:
            continue
        delta = difference(value, before.registers[name])
        if set(variables([delta])) <= fixed:
            grown[name] = delta
    return unchanged, grown


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _stride(head: int, deltas: Iterable[Term]) -> Term:
    """Return the largest constant step, as a positive number of bytes, or else a symbolic one."""
    terms = list(deltas)
    steps = [abs(_signed(value)) for term in terms if (value := constant(term))]
    if steps:
        return const(max(steps))
    symbolic = [term for term in terms if constant(term) is None]
    if symbolic:
        return symbolic[0]
    raise UnsupportedError("loop in which no register advances", head)


def _ratio(delta: Term, stride: Term) -> Fraction | None:
    """Return ``delta / stride`` if it is an integer, or one over a power of two."""
    if same(delta, stride):
        return Fraction(1)
    step, grown = constant(stride), constant(delta)
    if step is None or grown is None:
        return None
    ratio = Fraction(_signed(grown), step)
    parts = ratio.denominator
    return ratio if parts == 1 or (parts & (parts - 1) == 0 and abs(ratio.numerator) == 1) else None


def _grown(start: Term, progress: Term, ratio: Fraction) -> Term:
    """Return ``start`` after ``progress`` bytes, at ``ratio`` for each byte."""
    iterations = (
        shift_right(progress, const(ratio.denominator.bit_length() - 1))
        if ratio.denominator > 1
        else progress
    )
    return normal(start + iterations * const(ratio.numerator))


def _pointer(address: Term, before: State, advancing: dict[str, Fraction]) -> Pointer | None:
    for name in sorted(advancing):
        if advancing[name] == 1:
            offset = offset_from(address, before.registers[name])
            if offset is not None:
                return Pointer(name, offset)
    return None


def _copied(
    head: int, before: State, after: State, advancing: dict[str, Fraction]
) -> tuple[Pointer, Pointer]:
    loads = {a.value.hash(): a.address for a in after.accesses if a.kind == "load"}
    pairs = []
    for access in after.accesses:
        if access.kind == "store":
            dest = _pointer(access.address, before, advancing)
            origin = loads.get(access.value.hash())
            source = _pointer(origin, before, advancing) if origin is not None else None
            if dest is None or source is None:
                raise UnsupportedError("loop that stores what it did not load", access.at)
            pairs.append((dest, source))
    return min(pairs, key=lambda pair: pair[0].offset)


def _maintained(
    head: int, before: State, events: tuple[Event, ...], advancing: dict[str, Fraction]
) -> tuple[Pointer, str] | None:
    found: list[tuple[Pointer, str]] = []
    for event in events:
        if event.name not in _MAINTENANCE:
            raise UnsupportedError(f"{event.name} in a loop", event.at)
        pointer = _pointer(event.operands[0], before, advancing)
        if pointer is None:
            raise UnsupportedError("maintenance in a loop at an address that does not advance", event.at)
        found.append((pointer, _MAINTENANCE[event.name]))
    if len(found) > 1:
        raise UnsupportedError("loop with several maintenance instructions", head)
    return found[0] if found else None


@dataclass(frozen=True)
class Entered:
    """A loop entered in ``entry``: its state after any number of iterations, as a definition."""

    shape: Shape
    entry: State
    progress: Term
    tag: str

    @classmethod
    def at(cls, shape: Shape, entry: State, tag: str) -> Entered:
        """Return the loop of ``shape`` entered in the state ``entry``; ``tag`` names its variables."""
        return cls(shape, entry, var(f"progress@{tag}"), tag)

    @property
    def stride(self) -> Term:
        """Return the bytes of progress in an iteration, over the entry state."""
        generic = generic_state().registers
        term = self.shape.stride
        for name in variables([term]):
            register = name.removesuffix(f"@{_GENERIC}")
            if register in generic and register != name:
                term = substitute(term, var(name), self.entry.registers[register])
        return term

    def state(self, progress: Term) -> State:
        """Return the state at the head after ``progress`` bytes."""
        shape, entry = self.shape, self.entry
        registers = dict(entry.registers)
        for name, ratio in shape.advancing.items():
            registers[name] = _grown(registers[name], progress, ratio)
        for name in shape.clobbered:
            registers[name] = var(f"{name}@{self.tag}", registers[name].length)
        ghosts = dict(entry.ghosts)
        for name, value in shape.ghosts.items():
            if value is None:
                ghosts[name] = var(f"{name}@{self.tag}", ghosts[name].length)
            else:
                ghosts[name] = If(progress == 0, ghosts[name], value)
        memory, lines, fetch = entry.memory, entry.lines, entry.fetch
        if shape.copied:
            dest, source = (pointer.address(entry) for pointer in shape.copied)
            memory = memory.copy(dest, source, progress)
            lines = Stored(lines, dest, progress, entry.cacheable)
            fetch = Changed(fetch, dest, progress)
        if shape.maintained:
            pointer, operation = shape.maintained
            start = pointer.address(entry)
            if operation == "ivau":
                fetch = Invalidated(fetch, start, progress, entry.lines)
            elif operation != "cvau":
                lines = Maintained(lines, start, progress, operation, entry.cacheable)
        return replace(entry, registers=registers, ghosts=ghosts, memory=memory, lines=lines, fetch=fetch)

    def candidates(self, iteration: State | None, bounds: Iterable[int]) -> Facts:
        """Return formulas over ``progress`` that may be invariants; induction decides which are.

        :param iteration: the state after one iteration, whose branch conditions are the loop's guard.
        :param bounds: sizes in bytes that the progress may stay below.
        """
        progress, stride = self.progress, self.stride
        found = [("progress is a multiple of the stride", (progress & (stride - 1)) == 0)]
        found += [(f"progress is below {bound:#x}", ult(progress, const(bound))) for bound in bounds]
        for name, ratio in sorted(self.shape.advancing.items()):
            if ratio == 1:
                start = self.entry.registers[name]
                found.append((f"{name} has not wrapped", ule(start, normal(start + progress))))
        if iteration is not None:
            guard = claripy.And(*(fact for _, fact in iteration.facts[len(self.entry.facts) :]))
            earlier = substitute(guard, progress, progress - stride)
            found.append(("the guard held before this iteration", claripy.Or(progress == 0, earlier)))
        return tuple(found)
