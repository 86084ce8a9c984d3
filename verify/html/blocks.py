"""Divide a recorded function into basic blocks, and say what the run knows of each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from kexec_verify.report.model import FunctionRecord, InstructionRecord, Run
from kexec_verify.verdict import Verdict

SIZE = 4  # bytes of an instruction
_PLACE = re.compile(r" at (?P<symbol>\S+)\+(?P<offset>0x[0-9a-f]+)/0x[0-9a-f]+$")


@dataclass(frozen=True)
class Block:
    """Instructions that run one after the other, from the first to the last.

    :param then: first addresses of the blocks that follow.
    :param state: ``proved``, ``open`` (on a path of something that is not proved), ``refuted`` (a
        counterexample's bad effect), ``unmodelled`` (some instruction has no meaning in the model),
        ``unreached`` (no path from the entry leads to some instruction), ``uncovered`` (some
        instruction is on no path of a proof).
    """

    instructions: tuple[InstructionRecord, ...]
    then: tuple[int, ...]
    cutpoint: bool
    loop: bool
    state: str

    @property
    def start(self) -> int:
        """Return the address of its first instruction."""
        return self.instructions[0].address

    @property
    def last(self) -> int:
        """Return the address of its last instruction."""
        return self.instructions[-1].address


def holds(function: FunctionRecord, address: int | None) -> bool:
    """Return whether ``address`` lies in the function."""
    return address is not None and function.address <= address < function.address + max(function.size, SIZE)


def where(run: Run, address: object) -> str:
    """Return ``address`` as symbol+offset/size, if a recorded function holds it."""
    if not isinstance(address, int):
        return ""
    for function in run.functions:
        if holds(function, address):
            return f"{function.name}+{address - function.address:#x}/{function.size:#x}"
    return f"{address:#x}"


def unmodelled(instruction: InstructionRecord) -> bool:
    """Return whether the instruction is recorded as one without a meaning; its event says why."""
    return instruction.text.startswith(".inst ")


def cutpoints(function: FunctionRecord, run: Run) -> set[int]:
    """Return the addresses where paths begin: entry, recorded loop heads, the paths' first addresses."""
    found = {function.address, *function.loops}
    return found | {p.path[0] for p in run.paths if p.path and holds(function, p.path[0])}


@dataclass(frozen=True)
class Trouble:
    """Addresses in a run by what went wrong.

    :param refuted: a bad effect is shown there; ``open``: something is not proved there.
    :param stuck: why a proof went no further than there.
    """

    refuted: frozenset[int]
    open: frozenset[int]
    stuck: dict[int, str] = field(default_factory=dict)


def trouble(run: Run) -> Trouble:
    """Return the addresses at which ``run`` has trouble."""
    refuted = {
        at for p in run.properties if p.counterexample and isinstance(at := p.counterexample.get("at"), int)
    }
    unproved: set[int] = set()
    for record in run.properties:
        for required in record.obligations:
            if required.verdict is not Verdict.PROVED:
                unproved.update([required.at] if required.at is not None else required.path)
    return Trouble(frozenset(refuted), frozenset(unproved), _stuck(run))


def _stuck(run: Run) -> dict[int, str]:
    """Return the addresses with which reasons of UNSUPPORTED properties end, and the reasons."""
    known = {function.name: function.address for function in run.functions}
    found: dict[int, str] = {}
    for record in run.properties:
        match = _PLACE.search(record.reason) if record.verdict is Verdict.UNSUPPORTED else None
        if match and match["symbol"] in known:
            found.setdefault(known[match["symbol"]] + int(match["offset"], 16), record.reason)
    return found


def explored(function: FunctionRecord, run: Run) -> bool:
    """Return whether every path from the entry was run, and every branch left out is proved never taken."""
    about = [(r, o) for r in run.properties for o in r.obligations if holds(function, o.at)]
    own = [r for r in run.properties if r.function == function.name] + [record for record, _ in about]
    untaken = [required for _, required in about if required.name.endswith("-untaken")]
    return (
        run.complete
        and bool(about)
        and any(instruction.covered for instruction in function.instructions)
        and all(record.verdict in (Verdict.PROVED, Verdict.REFUTED) for record in own)
        and all(required.verdict is Verdict.PROVED for required in untaken)
    )


def blocks(function: FunctionRecord, run: Run) -> list[Block]:
    """Return the basic blocks of ``function``, by address."""
    cuts, bad = cutpoints(function, run), trouble(run)
    beyond = "unreached" if explored(function, run) else "uncovered"
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
                    _state(current, bad, beyond),
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


def _state(instructions: list[InstructionRecord], bad: Trouble, beyond: str) -> str:
    addresses = {instruction.address for instruction in instructions}
    if addresses & bad.refuted:
        return "refuted"
    if any(unmodelled(instruction) for instruction in instructions) or addresses & bad.stuck.keys():
        return "unmodelled"
    if not any(instruction.covered for instruction in instructions):
        return beyond
    if beyond == "uncovered" and not all(instruction.covered for instruction in instructions):
        return beyond
    return "open" if addresses & bad.open else "proved"
