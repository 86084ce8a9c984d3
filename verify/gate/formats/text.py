"""For the terminal: the decision and its reasons, then every property, then what to type next."""

from __future__ import annotations

from kexec_verify.gate.formats.report import Report, headline, next_command, notes, reasons
from kexec_verify.report.plain import plain
from kexec_verify.report.status import by_function, status


def render(shown: Report) -> str:
    """Return the whole text."""
    lines = [headline(shown), *(f"  {line}" for line in [*reasons(shown), *notes(shown)])]
    for run in shown.runs:
        complete = "" if run.complete else " (incomplete)"
        lines += ["", plain(f"{run.target.name}{complete}: sha256 {run.target.sha256}")]
        for function, records in by_function(run).items():
            lines.append(plain(f"  {function}"))
            ordered = sorted(records, key=lambda record: -record.verdict.rank)
            lines += [plain(f"    {record.id:<24} {status(record)}") for record in ordered]
    if command := next_command(shown):
        lines += ["", f"next: {command}"]
    return "\n".join(lines) + "\n"
