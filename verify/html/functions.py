"""Prepare a function for the page: its graph, its listing with what covers each line, its loops."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from kexec_verify.html import anchors, events
from kexec_verify.html.blocks import Block, blocks, cutpoints, explored, holds, trouble, unmodelled
from kexec_verify.html.graph import STATES, graph
from kexec_verify.report.model import EndRecord, FunctionRecord, InstructionRecord, PathRecord, Run
from markupsafe import Markup

_TARGET = re.compile(r"(?P<before>.* )(?P<symbol>\S+)\+(?P<offset>0x[0-9a-f]+)/0x[0-9a-f]+$", re.DOTALL)


@dataclass(frozen=True)
class Segment:
    """A path from one cutpoint to the next, and the list with which the real bytes ran along it."""

    number: int
    record: PathRecord
    begins: str
    ends: str


@dataclass(frozen=True)
class Line:
    """One line of the listing.

    :param text: up to ``goes``, which is the target of a branch or call that the page shows, at ``to``.
    :param tone: ``bad`` where a counterexample has its effect, ``warn`` where something is not proved.
    :param obligations: how many of each name are about this instruction.
    :param starts: the block that begins here, if one does.
    """

    record: InstructionRecord
    anchor: str
    offset: int
    text: str
    goes: str
    to: str
    event: str
    tone: str
    segments: list[int]
    obligations: Counter[str]
    refutes: list[str]
    starts: Block | None


@dataclass(frozen=True)
class Loop:
    """A loop's head and the formulas that hold whenever control is there."""

    head: int
    offset: int
    formulas: list[str]


@dataclass(frozen=True)
class FunctionView:
    """Everything that the page shows of a function."""

    record: FunctionRecord
    anchor: str
    graph: Markup
    states: dict[str, str]
    explored: bool
    lines: list[Line]
    loops: list[Loop]
    segments: list[Segment]
    ends: list[EndRecord]

    @property
    def troubled(self) -> bool:
        """Return whether a line is about something that is not proved."""
        return any(line.tone for line in self.lines)


def function_view(function: FunctionRecord, run: Run) -> FunctionView:
    """Return the view of one of the run's functions."""
    drawn = blocks(function, run)
    segments = _segments(function, run)
    used = {block.state for block in drawn}
    return FunctionView(
        record=function,
        anchor=function_anchor(function.name),
        graph=graph(function, drawn),
        states={state: words for state, words in STATES.items() if state in used},
        explored=explored(function, run),
        lines=_lines(function, run, drawn, segments),
        loops=_loops(function),
        segments=segments,
        ends=[end for end in run.ends if end.function == function.name],
    )


def function_anchor(name: str) -> str:
    """Return the identifier of a function in the page."""
    return anchors.anchor("f", name)


def _segments(function: FunctionRecord, run: Run) -> list[Segment]:
    cuts = cutpoints(function, run)
    following = {instruction.address: instruction.then for instruction in function.instructions}
    found = []
    for number, path in enumerate(run.paths, 1):
        if path.path and holds(function, path.path[0]):
            ahead = [target for target in following.get(path.path[-1], []) if target in cuts]
            leaves = not following.get(path.path[-1])
            end = "out of the function" if leaves else " or ".join(_place(function, t) for t in ahead)
            end = end or _place(function, path.path[-1])
            found.append(Segment(number, path, _place(function, path.path[0]), end))
    return found


def _place(function: FunctionRecord, address: int) -> str:
    return "entry" if address == function.address else f"+{address - function.address:#x}"


def _lines(function: FunctionRecord, run: Run, drawn: list[Block], segments: list[Segment]) -> list[Line]:
    starts = {block.start: block for block in drawn}
    bad = trouble(run)
    about: dict[int, Counter[str]] = {}
    for record in run.properties:
        for required in record.obligations:
            if required.at is not None:
                about.setdefault(required.at, Counter())[required.name] += 1
    refuted: dict[int, list[str]] = {}
    for record in run.properties:
        at = record.counterexample.get("at") if record.counterexample else None
        if isinstance(at, int):
            refuted.setdefault(at, []).append(record.id)
    on: dict[int, list[int]] = {}
    for segment in segments:
        for address in dict.fromkeys(segment.record.path):
            on.setdefault(address, []).append(segment.number)
    callable_ = {other.name for other in run.functions}
    kinds = {end.at: end.kind for end in run.ends}
    found = []
    for instruction in function.instructions:
        address = instruction.address
        shown, goes, to = _branch(function, instruction, callable_)
        stuck = unmodelled(instruction) or address in bad.stuck
        doubtful = address in bad.open or stuck
        tone = "bad" if address in bad.refuted else "warn" if doubtful else ""
        found.append(
            Line(
                instruction,
                anchors.at(address),
                address - function.address,
                shown,
                goes,
                to,
                f"no model: {bad.stuck.get(address, instruction.event)}"
                if stuck
                else events.words(instruction.event, kinds.get(address, "")),
                tone,
                on.get(address, []),
                about.get(address, Counter()),
                refuted.get(address, []),
                starts.get(address),
            )
        )
    return found


def _branch(
    function: FunctionRecord, instruction: InstructionRecord, callable_: set[str]
) -> tuple[str, str, str]:
    """Return the text before a target that the page shows, that target's name, and its identifier."""
    match = _TARGET.fullmatch(instruction.text)
    if match and match["symbol"] == function.name:
        target = function.address + int(match["offset"], 16)
        if target in instruction.then:
            return match["before"], f"+{target - function.address:#x}", anchors.at(target)
    before, space, last = instruction.text.rpartition(" ")
    if before in ("b", "bl") and last in callable_:
        return before + space, last, function_anchor(last)
    return instruction.text, "", ""


def _loops(function: FunctionRecord) -> list[Loop]:
    heads = dict.fromkeys([*function.loops, *(record.at for record in function.invariants)])
    return [
        Loop(head, head - function.address, [r.formula for r in function.invariants if r.at == head])
        for head in heads
    ]
