"""Check a share of the vectors further: by claripy's own folding, and by both solvers."""

from __future__ import annotations

from collections.abc import Mapping

from kexec_verify.arm64.cache import Lines
from kexec_verify.arm64.execute import execute
from kexec_verify.arm64.lift import Instruction
from kexec_verify.arm64.state import State, unknown_ghosts, width
from kexec_verify.cosim.byte_memory import BYTES, Bytes
from kexec_verify.cosim.compare import read_at
from kexec_verify.cosim.meaning import (
    MEMORY,
    REGISTERS,
    TAG,
    Meaning,
    Result,
    of_words,
    target_of,
    unknown_state,
)
from kexec_verify.errors import InternalError
from kexec_verify.logic import And, Formula, Function, Term, const, constant
from kexec_verify.memory import WORD_BYTES, Memory
from kexec_verify.obligation import Facts
from kexec_verify.prove.smtlib import script
from kexec_verify.prove.solvers import Answer, ask_bitwuzla, ask_z3


class _Windows(Memory):
    """Memory with the contents of the data windows."""

    def __init__(self, memory: tuple[bytes, ...]):
        super().__init__()
        self._memory = memory

    def _read(self, address: Term) -> Term:
        return const(read_at(self._memory, _value(address), WORD_BYTES))


class _WindowBytes(Bytes):
    """The same, byte by byte."""

    def __init__(self, memory: tuple[bytes, ...]):
        super().__init__()
        self._memory = memory

    def byte(self, address: Term) -> Term:
        return const(read_at(self._memory, _value(address), 1), 8)


def _value(term: Term) -> int:
    value = constant(term)
    if value is None:
        raise InternalError(f"expected a constant of a concrete state, found {term}")
    return value


def folded(instruction: Instruction, state: Mapping[str, int], memory: tuple[bytes, ...]) -> Result:
    """Return the result of running the engine on constants, which claripy folds.

    :raises InternalError: if a term does not fold, or not exactly one outcome is left.
    """
    unknown = unknown_state().registers
    registers = {**unknown, **{name: const(value, width(name)) for name, value in state.items()}}
    windows = _Windows(memory) if of_words(instruction) else _WindowBytes(memory)
    before = State(registers, unknown_ghosts(TAG), windows, Lines("lines"))
    steps = list(execute(instruction, before))
    if len(steps) != 1:
        raise InternalError(f"{len(steps)} outcomes of {instruction.text} in a concrete state")
    after = steps[0].state
    stores = [access for access in after.accesses if access.kind == "store"]
    return Result(
        tuple(_value(after.registers[name]) for name in REGISTERS),
        {(_value(s.address), s.size): _value(after.memory.load(s.address, s.size)) for s in stores},
        _value(target_of(steps[0])),
    )


def _function(size: int) -> Function:
    """Return the function with which the memory of Meaning reads ``size`` bytes."""
    return Function(MEMORY) if size == WORD_BYTES else Function(BYTES, 8)


def query(
    meaning: Meaning, state: Mapping[str, int], memory: tuple[bytes, ...], result: Result
) -> tuple[Facts, Formula]:
    """Return the query whether the engine's terms imply ``result`` in ``state``."""
    asked: dict[tuple[int, int], int] = {}

    def read(address: int, size: int) -> int:
        asked[address, size] = read_at(memory, address, size)
        return asked[address, size]

    meaning.run(state, read)
    before = meaning.before
    known = [(name, before.registers[name] == const(value, width(name))) for name, value in state.items()]
    known += [
        (f"memory {i}", _function(size)(address) == const(value, 8 * size))
        for i, ((address, size), value) in enumerate(asked.items())
    ]
    cases = []
    for outcome in meaning.outcomes:
        values = dict(zip(REGISTERS, result.registers, strict=True))
        parts = [outcome.condition, outcome.target == const(result.target)]
        for name in REGISTERS:
            term = outcome.changed.get(name, before.registers[name])
            parts.append(term == const(values[name], width(name)))
        stores = list(result.stores.items())
        for (address, value, size), ((wanted, _), found) in zip(outcome.stores, stores, strict=True):
            parts += [address == const(wanted), value == const(found, 8 * size)]
        cases.append(And(*parts))
    goal = cases[0]
    for case in cases[1:]:
        goal = goal | case
    return tuple(known), goal


def solvers_agree(
    meaning: Meaning, state: Mapping[str, int], memory: tuple[bytes, ...], result: Result
) -> str | None:
    """Return what is wrong if z3 and bitwuzla do not both find that the engine's terms imply ``result``.

    They must also find that the terms do not imply a result that differs in one bit.
    """
    hypotheses, goal = query(meaning, state, memory, result)
    other = Result((result.registers[0] ^ 1, *result.registers[1:]), result.stores, result.target)
    _, wrong = query(meaning, state, memory, other)
    for ask, asked, answer in (
        (ask_bitwuzla, goal, Answer.UNSAT),
        (ask_z3, goal, Answer.UNSAT),
        (ask_bitwuzla, wrong, Answer.SAT),
    ):
        found = ask(script(hypotheses, asked))
        if found.answer is not answer:
            return f"{found.solver}: expected {answer}, found {found.answer}"
    return None
