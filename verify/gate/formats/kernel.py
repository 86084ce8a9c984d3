"""One line a finding, as the kernel's build prints them: ``file:line: error: fn+0x58/0xf0: … [property-id]``.

Without debug information, as objtool does: ``vmlinux: error: kexec-verify: fn+0x58/0xf0: … [property-id]``.
The offsets are those that scripts/faddr2line takes.
"""

from __future__ import annotations

from kexec_verify.gate.finding import Finding
from kexec_verify.gate.formats.report import Report
from kexec_verify.report.plain import plain


def line(finding: Finding) -> str:
    """Return the finding in a line."""
    status = "" if finding.level == "error" else f"{finding.status}: "
    what = f"{finding.where}: {status}{finding.message} [{finding.record.id}]"
    if finding.source:
        return plain(f"{finding.source}: {finding.level}: {what}")
    return plain(f"{finding.run.target.name}: {finding.level}: kexec-verify: {what}")


def render(shown: Report) -> str:
    """Return every finding, the worst first; then each reason of the gate that no finding has."""
    lines = [line(finding) for finding in shown.findings]
    said = {"refuted", "error", "undecided", "vacuous"}
    for reason in shown.decision.reasons:
        if reason.rule not in said:
            about = f" [{reason.property}]" if reason.property else ""
            lines.append(plain(f"{reason.target}: error: kexec-verify: gate: {reason.message}{about}"))
    return "".join(f"{text}\n" for text in lines)
