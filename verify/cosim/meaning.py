"""Express the engine's meaning of an instruction as functions of a concrete state.

The instruction is executed once on a state of variables. The resulting terms are printed as SMT-LIB text, and
that text is evaluated.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kexec_verify.arm64.cache import Lines
from kexec_verify.arm64.execute import Exit, Step, execute
from kexec_verify.arm64.lift import Instruction
from kexec_verify.arm64.state import FLAGS, GENERAL, SYSTEM, State, unknown_ghosts, unknown_registers
from kexec_verify.cosim.byte_memory import BYTES, Bytes
from kexec_verify.errors import InternalError
from kexec_verify.logic import TRUE, And, Formula, Term, const, same
from kexec_verify.memory import WORD_BYTES, Unknown
from kexec_verify.prove.evaluate import Evaluator, compile_terms
from kexec_verify.prove.read import Expression, read
from kexec_verify.prove.smtlib import Printer

TAG = "in"
MEMORY = "memory"
REGISTERS = (*GENERAL, "sp", *FLAGS)
"""What is compared: the registers that instructions read and write."""


@dataclass(frozen=True)
class Result:
    """The state after one instruction.

    :param registers: the values of REGISTERS, in that order.
    :param stores: by address and number of bytes of each store, what is there in the end.
    :param target: address of the next instruction.
    """

    registers: tuple[int, ...]
    stores: dict[tuple[int, int], int]
    target: int


@functools.cache
def unknown_state(words: bool = True) -> State:
    """Return a state of which nothing is known; its memory is made of words, or of bytes."""
    memory = Unknown(MEMORY) if words else Bytes()
    return State(unknown_registers(TAG), unknown_ghosts(TAG), memory, Lines("lines"))


def of_words(instruction: Instruction) -> bool:
    """Return whether every load and store of the instruction is of a whole word."""
    for operation in instruction.operations:
        if operation.opcode.name == "LOAD" and operation.output.size != WORD_BYTES:
            return False
        if operation.opcode.name == "STORE" and operation.inputs[2].size != WORD_BYTES:
            return False
    return True


def target_of(step: Step) -> Term:
    """Return the next instruction's address as a term; for a ``brk`` its own address."""
    then = step.then
    if isinstance(then, Exit):
        return const(step.state.trace[-1]) if then.kind == "brk" else then.target
    return const(then)


@dataclass(frozen=True)
class Outcome:
    """One outcome of an instruction: its condition and results, as terms."""

    condition: Formula
    target: Term
    changed: dict[str, Term]
    stores: tuple[tuple[Term, Term, int], ...]
    events: tuple[str, ...]


def _outcome(before: State, step: Step) -> Outcome:
    after = step.state
    changed = {
        name: after.registers[name]
        for name in (*REGISTERS, *SYSTEM)
        if not same(after.registers[name], before.registers[name])
    }
    stores = [access for access in after.accesses if access.kind == "store"]
    return Outcome(
        condition=And(*(fact for _, fact in after.facts)) if after.facts else TRUE,
        target=target_of(step),
        changed=changed,
        stores=tuple((s.address, after.memory.load(s.address, s.size), s.size) for s in stores),
        events=tuple(event.name for event in after.events),
    )


class Meaning:
    """What one instruction does, by the engine.

    :raises UnsupportedError: if the engine gives it no meaning.
    """

    def __init__(self, instruction: Instruction):
        self.instruction = instruction
        self.before = before = unknown_state(of_words(instruction))
        self.outcomes = [_outcome(before, step) for step in execute(instruction, before)]
        self._evaluators = [self._compile(outcome) for outcome in self.outcomes]

    @property
    def is_system(self) -> bool:
        """Return whether it does something that registers and memory do not show."""
        changed = {name for outcome in self.outcomes for name in outcome.changed}
        return any(outcome.events for outcome in self.outcomes) or not changed.isdisjoint(SYSTEM)

    @staticmethod
    def _compile(outcome: Outcome) -> Evaluator:
        printer = Printer()
        terms = [outcome.condition, outcome.target, *outcome.changed.values()]
        terms += [term for address, value, _ in outcome.stores for term in (address, value)]
        names = [printer.name(term) for term in terms]
        script = read("\n".join([*printer.declarations, *printer.definitions, "(check-sat)"]))
        return compile_terms(script, [script.term(_expression(name)) for name in names])

    def run(self, values: Mapping[str, int], read_at: Callable[[int, int], int]) -> Result:
        """Return the state after the instruction, from values of REGISTERS and SYSTEM and from memory.

        :param read_at: what memory holds at an address, in a number of bytes.
        :raises InternalError: if not exactly one of the outcomes applies.
        """
        named = {
            f"|{name if name == 'ctr_el0' else f'{name}@{TAG}'}|": value for name, value in values.items()
        }
        functions = {
            f"|{MEMORY}|": lambda address: read_at(address, WORD_BYTES),
            f"|{BYTES}|": lambda address: read_at(address, 1),
        }
        results = []
        for outcome, evaluator in zip(self.outcomes, self._evaluators, strict=True):
            holds, target, *rest = evaluator(named, functions)
            if not holds:
                continue
            after = dict(values)
            after.update(zip(outcome.changed, rest, strict=False))
            stored = rest[len(outcome.changed) :]
            sizes = [size for _, _, size in outcome.stores]
            keys = zip(stored[::2], sizes, strict=True)
            stores = dict(zip(keys, stored[1::2], strict=True))
            results.append(Result(tuple(after[name] for name in REGISTERS), stores, target))
        if len(results) != 1:
            raise InternalError(f"{len(results)} outcomes of {self.instruction.text} apply to one state")
        return results[0]


def _expression(name: str) -> Expression:
    """Return an atom of the printer as the reader's expression: a name or ``(_ bvN W)``."""
    return list(name.strip("()").split()) if name.startswith("(") else name
