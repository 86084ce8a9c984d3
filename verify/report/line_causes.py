"""Explain a word that a C function leaves dirty or stale: what wrote it, which calls maintain its line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kexec_verify.report.model import Run
from kexec_verify.report.steps import Point, Step

WORD = "the word in question"
"""The name of the word that is not clean, among a counterexample's inputs."""

# What a contract says of a range, as specs/contracts.py words it.
_CLEANS = (
    re.compile(r"The bytes from (?P<start>x\d) up to (?P<end>x\d) are clean"),
    re.compile(r"The (?P<length>x\d) bytes from (?P<start>x\d) are clean"),
)
_INVALIDATES = (re.compile(r"No instruction-cache line .* bytes from (?P<start>x\d) up to (?P<end>x\d)"),)
_COPIES = (re.compile(r"The (?P<length>x\d) bytes at (?P<start>x\d) are those at"),)


@dataclass(frozen=True)
class _Call:
    """A call in the run that copies to a range, or maintains it."""

    step: Step
    start: int
    end: int
    kind: str

    def covers(self, word: int) -> bool:
        """Return whether the call's range holds the word."""
        return self.start < word + 8 and word < self.end


def line_causes(run: Run, shown: Mapping[str, Any], steps: Sequence[Step]) -> tuple[list[Point], str]:
    """Return the calls that wrote and maintained the word at fault, and in sentences what is missing.

    :param shown: a C function's counterexample; there is nothing to say of others.
    """
    expected = str(shown.get("expected", ""))
    given, inputs = shown.get("given"), shown.get("inputs")
    word = _number(inputs.get(WORD)) if isinstance(inputs, dict) else None
    stale = "stale instructions" in expected
    if word is None or not isinstance(given, dict) or not (stale or "is clean" in expected):
        return [], ""
    calls = list(_calls(run, given, steps))
    wanted = "invalidates" if stale else "cleans"
    copies = [call for call in calls if call.kind == "copies" and call.covers(word)]
    kept = [call for call in calls if call.kind == wanted]
    points = [_point(call, word) for call in calls if call in copies or call in kept]
    return points, f"{_origin(shown, copies, word, stale)} {_missing(kept, copies, word, wanted)}"


def _calls(run: Run, given: Mapping[str, Any], steps: Sequence[Step]) -> Iterator[_Call]:
    contracts = {contract.name: contract.sentence for contract in run.contracts}
    recorded = given.get("registers")
    registers = dict(recorded) if isinstance(recorded, dict) else {}
    for step in steps:
        name = step.text.removeprefix("bl ")
        if name != step.text and name in contracts:
            for kind, patterns in (("copies", _COPIES), ("cleans", _CLEANS), ("invalidates", _INVALIDATES)):
                found = _range(contracts[name], patterns, registers)
                if found is not None:
                    yield _Call(step, *found, kind)
        registers.update(step.changed)


def _range(
    sentence: str, patterns: Sequence[re.Pattern[str]], registers: Mapping[str, Any]
) -> tuple[int, int] | None:
    for pattern in patterns:
        match = pattern.match(sentence)
        if match is None:
            continue
        named = {role: _number(registers.get(register)) for role, register in match.groupdict().items()}
        start, end, length = named.get("start"), named.get("end"), named.get("length")
        if start is not None and length is not None:
            end = start + length
        if start is not None and end is not None:
            return start, end
    return None


def _point(call: _Call, word: int) -> Point:
    where = f"[{call.start:#x}, {call.end:#x})"
    if call.kind == "copies":
        sentence = f"copies to {where}: this makes the cache line at {word:#x} dirty"
    elif call.covers(word):
        sentence = f"{call.kind} {where}"
    else:
        order = "ends below its start and " if call.end < call.start else ""
        sentence = f"{call.kind} {where}, which {order}does not hold {word:#x}"
    return Point(call.step.step, call.step.at, call.step.where, call.step.text, sentence)


def _origin(shown: Mapping[str, Any], copies: Sequence[_Call], word: int, stale: bool) -> str:
    if copies:
        return f"The copy at {copies[-1].step.where} writes {word:#x}."
    state = "may hold older instructions" if stale else "may be dirty"
    inputs = shown.get("inputs", {})
    segment = inputs.get("the segment in question") if isinstance(inputs, dict) else None
    what = f" of segment {segment}" if segment is not None and "segment" in str(shown.get("expected")) else ""
    return (
        f"The cache line of {word:#x}{what} {state} when {shown.get('function', 'the function')} is entered."
    )


def _missing(kept: Sequence[_Call], copies: Sequence[_Call], word: int, wanted: str) -> str:
    covering = [call for call in kept if call.covers(word)]
    if not kept:
        what = "cleans data to the point of coherency" if wanted == "cleans" else "invalidates instructions"
        return f"No call in the run {what}."
    if not covering:
        return f"No call in the run {wanted} {word:#x}."
    if copies and covering[-1].step.step < copies[-1].step.step:
        return f"The call that {wanted} it comes before the copy."
    return ""


def _number(value: object) -> int | None:
    if isinstance(value, int):
        return value
    try:
        return int(value, 16) if isinstance(value, str) else None
    except ValueError:
        return None
