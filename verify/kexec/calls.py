"""Calls by contract: what a callee leaves behind, as specs/contracts.py says it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from specs.contracts import Contract, Registers, contract
from verify.arm64.cache import Cleaned
from verify.arm64.execute import Exit, Step
from verify.arm64.lift import SIZE, Code
from verify.arm64.state import FLAGS, GHOSTS, SCRATCH, Event, State, width
from verify.arm64.system import touch
from verify.errors import UnsupportedError
from verify.kexec.whole import Whole
from verify.logic import And, Formula, If, Term, const, constant, normal, ule, var
from verify.memory import WORD_BYTES
from verify.obligation import Obligation
from verify.symbolic.objects import Objects

ARGUMENTS = tuple(f"x{i}" for i in range(8))
CLOBBERED = (*(f"x{i}" for i in range(19)), "x30", *FLAGS, *SCRATCH)
"""What every callee may change (AAPCS64, 6.1.1; x18 is the platform's, and counted with them)."""
RANGE_MARGIN = 4096  # bytes, more than a cache line
TOUCHED = ("icache", "unfinished")
"""Ghost components that the stores to a callee's own frame change."""


@dataclass
class Calls:
    """Applies contracts at the calls of one function.

    :param used: the contracts that were applied, by the callee's name.
    :param warned: the WARNs that paths go on after, each with a state that got there.
    """

    whole: Whole
    code: Code
    used: dict[str, tuple[int, Contract]] = field(default_factory=dict)
    obligations: list[Obligation] = field(default_factory=list)
    warned: dict[int, State] = field(default_factory=dict)
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
        if kind not in ("call", "br") or target is None:
            return None
        name, found = self.callee(target, at)
        self.used[name] = (target, found)
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

    def _event(self, state: State, name: str, at: int) -> State:
        operands = tuple(state.registers[register] for register in ARGUMENTS)
        event = Event(name, operands, at, len(state.facts), state)
        return replace(state, events=(*state.events, event))

    def apply(self, found: Contract, name: str, before: State, at: int) -> State | None:
        """The state after the call of ``name`` in ``before``; None if it does not return."""
        self._count += 1
        after = self._event(before, f"call {name}", at)
        if not found.returns:
            return None
        tag = f"{name}#{self._count}"
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
        for number, register in enumerate(found.fills):
            value = var(f"word{number}@{tag}")
            pointer = before.registers[register]
            after = replace(after, memory=after.memory.store(pointer, value))
            after = touch(after, pointer, const(WORD_BYTES))
        return after

    def _require(self, name: str, start: Term, end: Term, before: State, at: int) -> None:
        self.obligations.append(
            Obligation(
                "call-range",
                f"at {self.code.where(at)} {name} is given a range that ends above its start",
                before.facts,
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


def objects(state: State) -> Objects:
    """The memory of a state of C code."""
    if not isinstance(state.memory, Objects):
        raise UnsupportedError("memory that is not made of objects")
    return state.memory
