"""Explain why a property is not proved: the cause before the symptom, and what would make it right.

The page, the command line and SARIF show the same explanation. It is drawn from run.json alone. Source
lines are added if the caller can look them up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kexec_verify.report import remedies
from kexec_verify.report.line_causes import line_causes
from kexec_verify.report.model import ObligationRecord, PropertyRecord, Run
from kexec_verify.report.source_lines import Lines
from kexec_verify.report.status import status
from kexec_verify.report.steps import Point, Step, steps_of
from kexec_verify.verdict import BLOCKED, Verdict

_REGISTER = re.compile(r"\b[xw](\d+)\b")
_VALUES = 6  # shown at most


@dataclass(frozen=True)
class Explanation:
    """Why one property is not proved.

    :param what: one sentence; ``causes``: the earliest first; ``symptom``: where the fault is noticed.
    :param missing: what never came, in a sentence.
    :param values: registers and inputs that matter, and their values.
    :param queries: the proof obligations that are undecided, with the time spent.
    :param remedies: what would make it right, or what to try next.
    :param also: other properties that are undecided for the same reason.
    :param root: the property that this one is blocked by, with its own explanation.
    """

    property: str
    status: str
    what: str
    causes: list[Point] = field(default_factory=list)
    missing: str = ""
    symptom: Point | None = None
    values: list[tuple[str, str]] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    remedies: list[str] = field(default_factory=list)
    also: list[str] = field(default_factory=list)
    root: Explanation | None = None

    def lines(self) -> list[str]:
        """Return the explanation as text, one fact a line."""
        found = [f"{self.property}: {self.status}", f"  {self.what}"]
        for number, point in enumerate(self.causes):
            found.append(f"  {'cause' if not number else 'then '}    {point}")
            found.append(f"           This instruction {point.sentence}.")
        if self.missing:
            found.append(f"  missing  {self.missing}")
        if self.symptom is not None:
            found.append(f"  noticed  {self.symptom}")
            if self.symptom.sentence:
                found.append(f"           {self.symptom.sentence}")
        found += [f"  value    {name} = {value}" for name, value in self.values]
        found += [f"  query    {query}" for query in self.queries]
        for remedy in self.remedies:
            lacks = remedy.removeprefix("Missing: ")
            found.append(f"  to do    {remedy}" if lacks == remedy else f"  missing  {lacks}")
        if self.also:
            found.append(f"  the same cause: {', '.join(self.also)}")
        if self.root is not None:
            found += [f"  {line}" for line in self.root.lines()]
        return found


def explain(run: Run, record: PropertyRecord, lines: Lines | None = None) -> Explanation:
    """Return why ``record``, a property of ``run``, is not proved."""
    if record.verdict is Verdict.PROVED:
        return Explanation(record.id, status(record), "Every proof obligation of it is proved.")
    root = _root(run, record)
    if root is not None:
        return Explanation(
            record.id,
            status(record),
            f"Nothing is wrong with it by itself. It is undecided because {root.id} is {root.verdict}.",
            remedies=[f"Resolve {root.id} first, then run again."],
            root=explain(run, root, lines),
        )
    if record.counterexample is not None:
        return _refuted(run, record, record.counterexample, lines)
    return _undecided(run, record, lines)


def explanations(run: Run, lines: Lines | None = None) -> list[Explanation]:
    """Return an explanation of each property that is not proved: root causes first, one for each reason."""
    unproved = [record for record in run.properties if record.verdict is not Verdict.PROVED]
    unproved.sort(key=lambda record: (_root(run, record) is not None, record.waived, -record.verdict.rank))
    explained: dict[str, Explanation] = {}
    for record in unproved:
        alike = f"{record.id if record.counterexample else record.verdict} {record.reason}"
        if alike in explained:
            explained[alike].also.append(record.id)
        else:
            # The root has an explanation of its own in the list.
            explained[alike] = replace(explain(run, record, lines), root=None)
    return list(explained.values())


def _root(run: Run, record: PropertyRecord) -> PropertyRecord | None:
    """Return the property that blocks this one."""
    if not record.reason.startswith(BLOCKED):
        return None
    name = record.reason.removeprefix(BLOCKED).split(",")[0]
    found = next((other for other in run.properties if other.id == name), None)
    blocked_again = found is None or found is record or found.reason.startswith(BLOCKED)
    return None if blocked_again or found is None or found.verdict is Verdict.PROVED else found


# A counterexample


def _refuted(run: Run, record: PropertyRecord, shown: Mapping[str, Any], lines: Lines | None) -> Explanation:
    steps = steps_of(run, shown)
    at, where = shown.get("at"), str(shown.get("where", ""))
    last = steps[-1] if steps else None
    symptom = Point(
        last.step if last and last.at == at else 0,
        at if isinstance(at, int) else 0,
        where,
        last.text if last and last.at == at else "",
        _expected(shown),
    )
    causes = _recorded_causes(shown)
    missing = remedies.missing(record.id, str(shown.get("found", "")), _texts(shown, causes))
    if not causes:
        causes, missing = _from_steps(record.id, shown, steps, missing)
        if not causes and not missing:
            causes, missing = line_causes(run, shown, steps)
            missing = missing.strip()
    found_at = _located(run, [*causes, symptom], lines)
    return Explanation(
        record.id,
        status(record),
        record.reason,
        causes=found_at[:-1],
        missing=missing,
        symptom=found_at[-1],
        values=_values(shown, steps),
        remedies=remedies.of_refutation(record.id, str(shown.get("found", "")), record.waived),
    )


def _expected(shown: Mapping[str, Any]) -> str:
    expected, found = str(shown.get("expected", "")), str(shown.get("found", ""))
    effect = str(shown.get("effect", ""))
    if not expected or not found or f"expected {expected}" in effect or found in effect:
        return ""
    return f"Expected {expected}; found {found}."


def _recorded_causes(shown: Mapping[str, Any]) -> list[Point]:
    recorded = shown.get("causes")
    found = []
    for cause in recorded if isinstance(recorded, list | tuple) else ():
        if isinstance(cause, dict) and isinstance(cause.get("at"), int):
            step = cause.get("step")
            found.append(
                Point(
                    step if isinstance(step, int) else 0,
                    cause["at"],
                    str(cause.get("where", "")),
                    str(cause.get("text", "")),
                    str(cause.get("sentence", "")),
                )
            )
    return found


def _texts(shown: Mapping[str, Any], causes: list[Point]) -> list[str] | None:
    return [point.text for point in causes] if "causes" in shown else None


def _from_steps(
    claim: str, shown: Mapping[str, Any], steps: list[Step], missing: str
) -> tuple[list[Point], str]:
    """Return the cause of a counterexample that records none, from its instructions and operands."""
    total = steps[-1].step if steps else 0
    if "icache" in claim and len(steps) == total and steps:
        invalidations = [step for step in steps if step.text.startswith("ic ")]
        if not invalidations:
            return [], f"No ic instruction is among the {total} instructions of the run."
        step = invalidations[-1]
        point = Point(step.step, step.at, step.where, step.text, "is the last invalidation of the run")
        return [point], missing
    if not steps:
        return [], missing
    if "interrupts" in str(shown.get("expected", "")) and len(steps) == total:
        if not any(step.text.startswith("msr daif") for step in steps):
            return [], f"No msr daifset is among the {total} instructions of the run."
    # Of other faults an operand of the last instruction is not the cause.
    expected = re.match(r"(x\d+) =", str(shown.get("expected", "")))
    wanted = {expected[1]} if expected is not None else set()
    if claim.endswith("memory-safe"):
        wanted |= {f"x{number}" for number in _REGISTER.findall(steps[-1].text)}
    if steps[-1].text.startswith("bl "):  # an argument that the callee's contract does not allow
        wanted |= {f"x{number}" for number in _REGISTER.findall(str(shown.get("found", "")))}
    found = []
    for register in sorted(wanted):
        setter = next((step for step in reversed(steps[:-1]) if register in step.changed), None)
        if setter is not None:
            value = _hex(setter.changed[register])
            sentence = f"sets {register} to {value}, which the instruction at fault uses"
            found.append(Point(setter.step, setter.at, setter.where, setter.text, sentence))
    return sorted(found, key=lambda point: point.step), missing


def _located(run: Run, points: list[Point], lines: Lines | None) -> list[Point]:
    known = lines(run, [point.at for point in points if point.at]) if lines is not None else {}
    return [Point(p.step, p.at, p.where, p.text, p.sentence, known.get(p.at, "")) for p in points]


def _values(shown: Mapping[str, Any], steps: list[Step]) -> list[tuple[str, str]]:
    """Return the operands of the instruction at fault, then the arguments of the function."""
    registers = shown.get("registers")
    known = dict(registers) if isinstance(registers, dict) else {}
    for step in steps:
        known.update(step.changed)
    named = _REGISTER.findall(steps[-1].text) if steps else []
    if steps and steps[-1].text.startswith("bl "):
        named = _REGISTER.findall(str(shown.get("found", "")))
    used = dict.fromkeys(f"x{number}" for number in named)
    found = [(name, _hex(known[name])) for name in used if name in known]
    given = shown.get("inputs")
    if isinstance(given, dict):
        found += [(str(name), _hex(value)) for name, value in given.items()]
    return found[:_VALUES]


def _hex(value: object) -> str:
    return f"{value:#x}" if isinstance(value, int) else str(value)


# Neither proved nor refuted


def _undecided(run: Run, record: PropertyRecord, lines: Lines | None) -> Explanation:
    failing = [required for required in record.obligations if required.verdict is not Verdict.PROVED]
    placed = next((required for required in failing if required.at is not None), None)
    symptom = None
    if placed is not None and placed.at is not None:
        (symptom,) = _located(run, [Point(0, placed.at, placed.where, _text(run, placed.at), "")], lines)
    return Explanation(
        record.id,
        status(record),
        record.reason or "No reason is recorded.",
        symptom=symptom,
        queries=[_query(required) for required in failing[:_VALUES]],
        remedies=remedies.of_undecided(record.verdict, record.reason, bool(failing), run.complete),
    )


def _query(required: ObligationRecord) -> str:
    answers = ", ".join(f"{a.solver} {a.answer} after {a.seconds:.2f} s" for a in required.answers)
    return f"{required.text}: {required.name}: {required.sentence} ({answers or 'not asked'})"


def _text(run: Run, at: int) -> str:
    for function in run.functions:
        for instruction in function.instructions:
            if instruction.address == at:
                return instruction.text
    return ""
