"""GitHub Actions: annotations as workflow commands, and a step summary, within the runner's limits."""

from __future__ import annotations

from kexec_verify.gate.finding import Finding
from kexec_verify.gate.formats import markdown
from kexec_verify.gate.formats.escape import command_data, command_property
from kexec_verify.gate.formats.report import Report
from kexec_verify.report.status import Level

PER_STEP = 10
"""Annotations of each level that the runner keeps of a step; those beyond are dropped without a word."""
SUMMARY_LIMIT = 1024 * 1024
"""Bytes of a step summary; a longer one is not shown at all."""

_COMMANDS = {Level.ERROR: "error", Level.WARNING: "warning", Level.NOTE: "notice"}
_FINDING_RULES = ("refuted", "error", "undecided", "vacuous")


def commands(shown: Report) -> str:
    """Return a workflow command for each finding, and one that counts those that are left out."""
    by_level: dict[Level, list[str]] = {level: [] for level in _COMMANDS}
    for reason in shown.decision.reasons:
        if reason.rule not in _FINDING_RULES:
            about = f"{reason.target}: {reason.property}" if reason.property else reason.target
            by_level[Level.ERROR].append(
                _command(Level.ERROR, "", f"gate: {reason.rule}", f"{about}: {reason.message}")
            )
    # A refutation comes before what the gate says of a baseline: the runner shows the first ones.
    for finding in reversed(shown.findings):
        by_level[finding.level].insert(0, _finding(finding))
    lines = []
    for level, mine in by_level.items():
        if len(mine) > PER_STEP:
            kept = mine[: PER_STEP - 1]
            more = f"{len(mine) - len(kept)} more; the step summary has all of them"
            mine = [*kept, _command(level, "", "kexec-verify", more)]
        lines += mine
    return "".join(f"{line}\n" for line in lines)


def _finding(finding: Finding) -> str:
    message = f"{finding.where}: {finding.message} [{finding.record.id}]"
    return _command(finding.level, finding.source, f"{finding.status}: {finding.record.id}", message)


def _command(level: Level, source: str, title: str, message: str) -> str:
    place = ""
    if source:
        file, _, line = source.rpartition(":")
        place = f"file={command_property(file)},line={command_property(line)},"
    return f"::{_COMMANDS[level]} {place}title={command_property(title)}::{command_data(message)}"


def summary(shown: Report) -> str:
    """Return the step summary: Markdown, the refuted first, cut at a line's end if it is too long."""
    return markdown.cut(markdown.lines(shown), SUMMARY_LIMIT)
