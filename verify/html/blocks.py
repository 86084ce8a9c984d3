"""Basic blocks of a recorded function, and what the run knows of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from verify.report.model import FunctionRecord, InstructionRecord, Run
from verify.verdict import Verdict

SIZE = 4  # bytes of an instruction


@dataclass(frozen=True)
class Block:
    """Instructions that control runs through from first to last.

    :param then: first addresses of the blocks that follow.
    :param state: ``proved``, ``open`` (on a path of something that is not proved), ``refuted`` (a
        counterexample's bad effect), ``unmodelled`` (some instruction has no meaning in the model),
        ``uncovered`` (some instruction is on no path of a proof).
    """

    instructions: tuple[InstructionRecord, ...]
    then: tuple[int, ...]
    cutpoint: bool
    loop: bool
    state: str

    @property
    def start(self) -> int:
        """Address of its first instruction."""
        return self.instructions[0].address

    @property
    def last(self) -> int:
        """Address of its last instruction."""
        return self.instructions[-1].address


def holds(function: FunctionRecord, address: int | None) -> bool:
    """``address`` lies in the function."""
    return address is not None and function.address <= address < function.address + max(function.size, SIZE)


def unmodelled(instruction: InstructionRecord) -> bool:
    """The instruction is recorded as one without a meaning; its event says why."""
    return instruction.text.startswith(".inst ")


def cutpoints(function: FunctionRecord, run: Run) -> set[int]:
    """Addresses where paths begin: the entry, the recorded loop heads, what a path starts from."""
    found = {function.address, *function.loops}
    return found | {p.path[0] for p in run.paths if p.path and holds(function, p.path[0])}


@dataclass(frozen=True)
class Trouble:
    """Addresses in a run by what went wrong: a bad effect shown there, or something not proved there."""

    refuted: frozenset[int]
    open: frozenset[int]


def trouble(run: Run) -> Trouble:
    """Where ``run`` has trouble."""
    refuted = {
        at for p in run.properties if p.counterexample and isinstance(at := p.counterexample.get("at"), int)
    }
    unproved: set[int] = set()
    for record in run.properties:
        for owed in record.obligations:
            if owed.verdict is not Verdict.PROVED:
                unproved.update([owed.at] if owed.at is not None else owed.path)
    return Trouble(frozenset(refuted), frozenset(unproved))


def blocks(function: FunctionRecord, run: Run) -> list[Block]:
    """The basic blocks of ``function`` by address."""
    cuts, bad = cutpoints(function, run), trouble(run)
    found: list[Block] = []
    current: list[InstructionRecord] = []
    leaders = _leaders(function.instructions, cuts)
    for index, instruction in enumerate(function.instructions):
        current.append(instruction)
        following = function.instructions[index + 1 : index + 2]
        if not following or following[0].address in leaders:
            start = current[0].address
            then = tuple(t for t in dict.fromkeys(instruction.then) if holds(function, t))
            found.append(
                Block(
                    tuple(current),
                    then,
                    start in cuts,
                    start in function.loops,
                    _state(current, bad, function),
                )
            )
            current = []
    return found


def _leaders(instructions: Iterable[InstructionRecord], cuts: set[int]) -> set[int]:
    found = set(cuts)
    for instruction in instructions:
        if instruction.then != [instruction.address + SIZE]:
            found.update(instruction.then)
            found.add(instruction.address + SIZE)
    return found


def _state(instructions: list[InstructionRecord], bad: Trouble, function: FunctionRecord) -> str:
    addresses = {instruction.address for instruction in instructions}
    if addresses & bad.refuted:
        return "refuted"
    if any(unmodelled(instruction) for instruction in instructions):
        return "unmodelled"
    if not all(instruction.covered for instruction in instructions):
        return "uncovered"
    return "open" if addresses & bad.open else "proved"
