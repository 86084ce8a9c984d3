"""Markdown for a pull request, plain enough for a reply on a mailing list."""

from __future__ import annotations

from kexec_verify.gate.formats.escape import code_span
from kexec_verify.gate.formats.report import Report, headline, next_command
from kexec_verify.report.status import by_function, counts

LIMIT = 65_536
"""Characters that GitHub takes in a comment."""


def render(shown: Report) -> str:
    """Return the whole text, cut at a line's end if it is too long for a comment."""
    return cut(lines(shown), LIMIT)


def lines(shown: Report) -> list[str]:
    """Return the decision, its reasons, the findings, the worst first, and a line for each function."""
    decision = shown.decision
    title = f"**kexec-verify {'passed' if decision.passed else 'FAILED'}**"
    found = [title, "", code_span(headline(shown))]
    if decision.reasons:
        found.append("")
    for reason in decision.reasons:
        about = " ".join(code_span(word) for word in (reason.target, reason.property) if word)
        found.append(f"* {reason.rule}: {about}: {code_span(reason.message)}")
    found += [f"* note: {code_span(note)}" for note in shown.decision.notes]
    if shown.findings:
        found += ["", "Not proved:", ""]
    for finding in shown.findings:
        place = f", {code_span(finding.source)}" if finding.source else ""
        found.append(
            f"* **{finding.status}** {code_span(finding.record.id)} at {code_span(finding.where)}{place} "
            f"in {code_span(finding.run.target.name)}: {code_span(finding.message)}"
        )
    found += ["", "All:", ""]
    for run in shown.runs:
        for function, records in by_function(run).items():
            sums = ", ".join(f"{count} {status}" for status, count in counts(records).items())
            incomplete = "" if run.complete else ", **incomplete**"
            found.append(f"* {code_span(run.target.name)} {code_span(function)}: {sums}{incomplete}")
    if command := next_command(shown):
        found += ["", f"Next: {code_span(command)}"]
    return found


def cut(shown: list[str], limit: int) -> str:
    """Return the lines up to ``limit`` bytes of UTF-8, with a note of how many are left out."""
    kept: list[str] = []
    left = limit - 64  # room for the note
    for number, line in enumerate(shown):
        left -= len(line.encode()) + 1
        if left < 0:
            kept += ["", f"{len(shown) - number} lines left out."]
            break
        kept.append(line)
    return "\n".join(kept) + "\n"
