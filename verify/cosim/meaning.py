"""What our engine says an instruction does, as functions of a concrete state.

The instruction is executed once on a state of variables, the resulting terms are
printed as SMT-LIB text, and the text is what is evaluated.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from verify.arm64.cache import Lines
from verify.arm64.execute import Exit, Step, execute
from verify.arm64.lift import Instruction
from verify.arm64.state import FLAGS, GENERAL, SYSTEM, State, unknown_ghosts, unknown_registers
from verify.check.read import Expression, read
from verify.cosim.evaluate import Evaluator, compile_terms
from verify.errors import InternalError
from verify.logic import TRUE, And, Formula, Term, const, same
from verify.memory import Unknown
from verify.prove.smtlib import Printer

TAG = "in"
MEMORY = "memory"
REGISTERS = (*GENERAL, "sp", *FLAGS)
"""What is compared: the registers that instructions read and write."""


@dataclass(frozen=True)
class Result:
    """The state after one instruction.

    :param registers: the values of REGISTERS, in that order.
    :param stores: the final word at each address that was stored to.
    :param target: address of the next instruction.
    """

    registers: tuple[int, ...]
    stores: dict[int, int]
    target: int


@functools.cache
def unknown_state() -> State:
    """A state of which nothing is known."""
    return State(unknown_registers(TAG), unknown_ghosts(TAG), Unknown(MEMORY), Lines("lines"))


def target_of(step: Step) -> Term:
    """The next instruction's address as a term; that of a ``brk`` is the ``brk`` itself."""
    then = step.then
    if isinstance(then, Exit):
        return const(step.state.trace[-1]) if then.kind == "brk" else then.target
    return const(then)


@dataclass(frozen=True)
class Outcome:
    """One way in which an instruction ends: its condition and what it gives, as terms."""

    condition: Formula
    target: Term
    changed: dict[str, Term]
    stores: tuple[tuple[Term, Term], ...]
    events: tuple[str, ...]


def _outcome(before: State, step: Step) -> Outcome:
    after = step.state
    changed = {
        name: after.registers[name]
        for name in (*REGISTERS, *SYSTEM)
        if not same(after.registers[name], before.registers[name])
    }
    addresses = [access.address for access in after.accesses if access.kind == "store"]
    return Outcome(
        condition=And(*(fact for _, fact in after.facts)) if after.facts else TRUE,
        target=target_of(step),
        changed=changed,
        stores=tuple((address, after.memory.read(address)) for address in addresses),
        events=tuple(event.name for event in after.events),
    )


class Meaning:
    """What one instruction does.

    :raises UnsupportedError: if our engine gives it no meaning.
    """

    def __init__(self, instruction: Instruction):
        self.instruction = instruction
        before = unknown_state()
        self.outcomes = [_outcome(before, step) for step in execute(instruction, before)]
        self._evaluators = [self._compile(outcome) for outcome in self.outcomes]

    @property
    def is_system(self) -> bool:
        """It does something that registers and memory do not show."""
        changed = {name for outcome in self.outcomes for name in outcome.changed}
        return any(outcome.events for outcome in self.outcomes) or not changed.isdisjoint(SYSTEM)

    @staticmethod
    def _compile(outcome: Outcome) -> Evaluator:
        printer = Printer()
        terms = [outcome.condition, outcome.target, *outcome.changed.values()]
        terms += [term for store in outcome.stores for term in store]
        names = [printer.name(term) for term in terms]
        script = read("\n".join([*printer.declarations, *printer.definitions, "(check-sat)"]))
        return compile_terms(script, [script.term(_expression(name)) for name in names])

    def run(self, values: Mapping[str, int], word_at: Callable[[int], int]) -> Result:
        """The state after the instruction, from values of REGISTERS and SYSTEM and from memory.

        :raises InternalError: if not exactly one of the outcomes applies.
        """
        named = {
            f"|{name if name == 'ctr_el0' else f'{name}@{TAG}'}|": value for name, value in values.items()
        }
        results = []
        for outcome, evaluator in zip(self.outcomes, self._evaluators, strict=True):
            holds, target, *rest = evaluator(named, {f"|{MEMORY}|": word_at})
            if not holds:
                continue
            after = dict(values)
            after.update(zip(outcome.changed, rest, strict=False))
            stored = rest[len(outcome.changed) :]
            stores = dict(zip(stored[::2], stored[1::2], strict=True))
            results.append(Result(tuple(after[name] for name in REGISTERS), stores, target))
        if len(results) != 1:
            raise InternalError(f"{len(results)} outcomes of {self.instruction.text} apply to one state")
        return results[0]


def _expression(name: str) -> Expression:
    """An atom of the printer as the reader's expression: a name or ``(_ bvN W)``."""
    return list(name.strip("()").split()) if name.startswith("(") else name
