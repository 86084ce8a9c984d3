"""What every format is given."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kexec_verify.gate.decide import Decision, Evidence, Rule
from kexec_verify.gate.finding import Finding, findings
from kexec_verify.report.model import PropertyRecord, Run
from kexec_verify.report.plain import plain
from kexec_verify.report.source_lines import Lines
from kexec_verify.report.status import counts


@dataclass(frozen=True)
class Report:
    """A decision, what it is of, and the findings, the worst first.

    :param remedy: what to add so that the gate passes, in one line; empty if that is no matter of a list.
    """

    decision: Decision
    evidence: Sequence[Evidence]
    findings: Sequence[Finding]
    lines: Lines | None = None
    remedy: str = ""

    @property
    def runs(self) -> list[Run]:
        """The runs that the decision is on."""
        return [item.run for item in self.evidence]

    @property
    def properties(self) -> list[PropertyRecord]:
        """Every property of every run."""
        return [record for run in self.runs for record in run.properties]


def report(
    decision: Decision, evidence: Sequence[Evidence], lines: Lines | None = None, remedy: str = ""
) -> Report:
    """Return the report on a decision.

    :param lines: looks up source lines.
    :param remedy: what to add so that the gate passes, in one line.
    """
    return Report(decision, evidence, findings([item.run for item in evidence], lines), lines, remedy)


def headline(shown: Report) -> str:
    """Return the decision in a line: passed or failed, and how many properties have which status."""
    found = ", ".join(f"{count} {name}" for name, count in counts(shown.properties).items())
    found = found or "no property"
    if shown.decision.passed:
        return f"gate: passed: {found}"
    rules = Counter(reason.rule for reason in shown.decision.reasons)
    why = ", ".join(f"{rules[rule]} {rule}" for rule in Rule if rule in rules)
    return f"gate: failed ({why}): {found}"


def reasons(shown: Report) -> list[str]:
    """Return each reason in a line of its own."""
    lines = []
    for reason in shown.decision.reasons:
        about = f"{reason.target}: {reason.property}" if reason.property else reason.target
        lines.append(plain(f"{reason.rule}: {about}: {reason.message}"))
    return lines


def notes(shown: Report) -> list[str]:
    """Return what fails nothing, and a reader should know, a line each."""
    return [plain(f"note: {note}") for note in shown.decision.notes]


def next_command(shown: Report) -> str:
    """Return what to add, or the command to type, after a failure; empty if the gate is passed."""
    if shown.decision.passed:
        return ""
    if shown.remedy:
        return shown.remedy
    reason = shown.decision.reasons[0]
    item = next((i for i in shown.evidence if i.run.target.name == reason.target), None)
    if item is None:
        return f"verify run {quoted(reason.target)}"
    target, reports = quoted(item.run.target.source), quoted(str(item.path.parent.parent))
    if reason.rule in (Rule.REFUTED, Rule.WAIVER):
        return f"verify replay {quoted(str(item.path))}"
    if reason.rule is Rule.MUTANTS:
        return f"verify mutate {target} --reports {reports}"
    claim = reason.property.partition("@")[0]
    if claim and reason.rule not in (Rule.MISSING, Rule.ERROR):
        return f"verify show {quoted(claim)} --reports {reports}"
    return f"verify run {target} --reports {reports}"


def quoted(word: str) -> str:
    """Return the word as a shell takes it, on one line."""
    return shlex.quote(plain(word))
