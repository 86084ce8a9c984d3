"""Calls by contract: what a callee leaves behind, as specs/contracts.py says it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from specs.contracts import Contract, Registers, contract
from verify.arm64.cache import Changed, Cleaned, stored
from verify.arm64.execute import Exit, Step
from verify.arm64.lift import SIZE, Code
from verify.arm64.state import FLAGS, GHOSTS, SCRATCH, Access, Event, State, width
from verify.arm64.system import touch
from verify.errors import UnsupportedError
from verify.kexec.whole import Whole
from verify.logic import And, Formula, If, Term, const, constant, normal, ule, var
from verify.memory import WORD_BYTES
from verify.obligation import Facts, Obligation
from verify.symbolic.objects import Object, Objects

ARGUMENTS = tuple(f"x{i}" for i in range(8))
CLOBBERED = (*(f"x{i}" for i in range(19)), "x30", *FLAGS, *SCRATCH)
"""What every callee may change (AAPCS64, 6.1.1; x18 is the platform's, and counted with them)."""
CONTROL_PAGE = "the control page"
RANGE_MARGIN = 4096  # bytes, more than a cache line
TOUCHED = ("icache", "unfinished")
"""Ghost components that the stores to a callee's own frame change."""


@dataclass
class Calls:
    """Applies contracts at the calls of one function.

    :param used: the contracts that were applied, by the callee's name.
    :param warned: the WARNs that paths go on after, each with a state that got there.
    :param leaving: addresses whose call ends the function.
    :param named: what is assumed of addresses that a state has read from the list.
    :param copied: what was copied to the control page: start in the image, length in bytes, and the path.
    """

    whole: Whole
    code: Code
    used: dict[str, tuple[int, Contract]] = field(default_factory=dict)
    obligations: list[Obligation] = field(default_factory=list)
    warned: dict[int, State] = field(default_factory=dict)
    copied: list[tuple[int, int, tuple[int, ...]]] = field(default_factory=list)
    leaving: frozenset[int] = frozenset()
    named: Callable[[State], Facts] | None = None
    _count: int = 0

    def leave(self, step: Step) -> list[Step] | None:
        """Where ``step`` goes on; None where the function ends.

        :raises UnsupportedError: for a callee without a contract, by name.
        """
        assert isinstance(step.then, Exit)
        state, at = step.state, step.state.trace[-1]
        kind, target = step.then.kind, constant(step.then.target)
        if kind == "brk":
            if at not in self.code.warnings:
                return None
            self.warned.setdefault(at, state)
            return [Step(self._event(state, "warn", at), at + SIZE)]
        if kind not in ("call", "br") or target is None or target in self.leaving:
            return None
        name, found = self.callee(target, at)
        if self.used.setdefault(name, (target, found))[0] != target:
            raise UnsupportedError(f"calls of two functions that are named {name}", at)
        after = self.apply(found, name, state, at)
        if after is None:
            return []
        if kind == "br":
            return [Step(after, Exit("ret", state.registers["x30"]))]
        return [Step(after, at + SIZE)]

    def callee(self, target: int, at: int) -> tuple[str, Contract]:
        """The function at ``target``, and its contract."""
        names = self.whole.kernel.symbols_at(target)
        for name in names:
            found = contract(name)
            if found is not None:
                return name, found
        shown = names[0] if names else self.whole.where(target)
        raise UnsupportedError(f"call of {shown}, which has no contract", at)

    def _event(self, state: State, name: str, at: int, tag: str | None = None) -> State:
        operands = tuple(state.registers[register] for register in ARGUMENTS)
        event = Event(name, operands, at, len(state.facts), state, tag)
        return replace(state, events=(*state.events, event))

    def apply(self, found: Contract, name: str, before: State, at: int) -> State | None:
        """The state after the call of ``name`` in ``before``; None if it does not return."""
        self._count += 1
        tag = f"{name}#{self._count}"
        after = self._event(before, f"call {name}", at, tag)
        if not found.returns:
            return None
        after = after.with_registers(**{r: var(f"{r}@{tag}", width(r)) for r in CLOBBERED})
        changed = {*found.changes, *TOUCHED}
        registers = {n: var(f"{n}@{tag}", width(n)) for n in found.changes if n not in GHOSTS}
        after = after.with_registers(**registers)
        ghosts = {n: var(f"{n}@{tag}", bits) for n, bits in GHOSTS.items() if n in changed}
        after = after.with_ghosts(**ghosts)
        x = self.values(before)
        if found.ensures is not None:
            after = after.assume((f"contract of {name}", found.ensures(x, self.values(after))))
        if found.answers_stub:
            answer = If(self.whole.stub_below(before), const(1, 8), const(0, 8))
            after = after.assume((f"contract of {name}", after.registers["x0"][7:0] == answer))
        if found.cleans is not None:
            start, end = found.cleans(x)
            self._require(name, start, end, before, at)
            after = replace(after, lines=Cleaned(after.lines, normal(start), normal(end), None))
        if found.fetches is not None:
            start, end = found.fetches(x)
            self._require(name, start, end, before, at)
            fetch = Cleaned(after.fetch, normal(start), normal(end), after.lines)
            after = replace(after, fetch=fetch)
        if found.copies is not None:
            after = self._copy(found.copies(x), name, after, at)
        for number, register in enumerate(found.fills):
            value = var(f"word{number}@{tag}")
            pointer = before.registers[register]
            after = replace(after, memory=after.memory.store(pointer, value))
            after = touch(after, pointer, const(WORD_BYTES))
        return after

    def _copy(self, copied: tuple[Term, Term, Term], name: str, after: State, at: int) -> State:
        """A copy of bytes of the image, whose number is a constant, to a page of its own."""
        dest, source, length = copied[0], constant(copied[1]), constant(copied[2])
        kernel, page = self.whole.kernel, self.whole.page_size
        if source is None or length is None or not kernel.mapped(source, max(length, 1)) or length > page:
            raise UnsupportedError(f"{name} of other bytes than a constant part of the image", at)
        linear = self.whole.address_map(after).in_linear_map(dest)
        after = after.assume(("control-page-linear", And(linear, ule(dest, const(-(1 << 20))))))
        memory = objects(after).adding(Object(CONTROL_PAGE, dest, 0, page))
        for offset, byte in enumerate(kernel.read(source, length)):
            memory = memory.storing(CONTROL_PAGE, offset, const(byte, 8))
        self.copied.append((source, length, after.trace))
        lines = stored(after.lines, dest, const(length), after.cacheable)
        return replace(after, memory=memory, lines=lines, fetch=Changed(after.fetch, dest, const(length)))

    def _require(self, name: str, start: Term, end: Term, before: State, at: int) -> None:
        self.obligations.append(
            Obligation(
                "call-range",
                f"at {self.code.where(at)} {name} is given a range that ends above its start",
                (*before.facts, *(self.named(before) if self.named else ())),
                range_is_sane(start, end),
                at,
                before.trace,
            )
        )

    def values(self, state: State) -> Registers:
        """What a contract speaks of in ``state``."""
        found = {**state.registers, **state.ghosts}
        if "reserved_pg_dir" in self.whole.globals:
            address_map_word = self.whole.word(state, "kimage_voffset")
            found["PA(reserved_pg_dir)"] = const(self.whole.globals["reserved_pg_dir"]) - address_map_word
        return found


def range_is_sane(start: Term, end: Term) -> Formula:
    """``start`` is not above ``end``, and lines around both are clear of the top of memory."""
    return And(ule(start, end), ule(end, const(-RANGE_MARGIN)))


def owed_access(
    prefix: str, where: Callable[[int], str], access: Access, own: Callable[[str], Formula | None]
) -> list[Obligation]:
    """What is owed of one access: that it stays in its object, and that a store may be made there.

    :param own: for an object's name, when it may be stored to; None for always.
    """
    memory = objects(access.before)
    item, _ = memory.find(access.address)
    shown = f"the {access.kind} at {where(access.at)}"
    goals = [("access", f"{shown} stays in {item.name}", memory.inside(access.address, access.size))]
    allowed = own(item.name) if access.kind == "store" else None
    if allowed is not None:
        goals.append(("store", f"{shown} is to {item.name}, where it may store", allowed))
    # What is plainly true needs no path: it is owed once, whatever leads there.
    return [
        Obligation(
            f"{prefix}-{kind}",
            sentence,
            () if goal.is_true() else access.before.facts[: access.known],
            goal,
            access.at,
        )
        for kind, sentence, goal in goals
    ]


def without_doubles(obligations: Iterable[Obligation]) -> list[Obligation]:
    """Each obligation without hypotheses once."""
    found: list[Obligation] = []
    seen: set[tuple[str, str, int | None, int]] = set()
    for obligation in obligations:
        key = (obligation.name, obligation.sentence, obligation.at, obligation.goal.hash())
        if obligation.hypotheses or key not in seen:
            seen.add(key)
            found.append(obligation)
    return found


def objects(state: State) -> Objects:
    """The memory of a state of C code."""
    if not isinstance(state.memory, Objects):
        raise UnsupportedError("memory that is not made of objects")
    return state.memory
