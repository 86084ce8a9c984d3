"""KTAP version 1 (Documentation/dev-tools/ktap.rst): binary, function, property; then the gate's reasons.

A waived refutation is ``ok … # SKIP``: readers show it neither as passed nor as failed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kexec_verify.gate.finding import Finding
from kexec_verify.gate.formats.escape import description
from kexec_verify.gate.formats.report import Report
from kexec_verify.report.model import Run
from kexec_verify.report.plain import plain
from kexec_verify.report.status import Level, by_function


@dataclass
class _Test:
    """A result line; with subtests its result is theirs."""

    name: str
    ok: bool = True
    note: str = ""
    diagnostics: list[str] = field(default_factory=list)
    subtests: list[_Test] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return self.ok and all(test.passed for test in self.subtests)


def render(shown: Report) -> str:
    """Return the whole output."""
    by_record = {id(finding.record): finding for finding in shown.findings}
    tests = [_binary(run, by_record) for run in shown.runs]
    gate = _Test("gate")
    for reason in shown.decision.reasons:
        about = f"{reason.rule} {reason.target} {reason.property}"
        gate.subtests.append(_Test(about, False, "", [reason.message]))
    return "\n".join(_plan([*tests, gate], "")) + "\n"


def _plan(tests: list[_Test], indent: str) -> list[str]:
    lines = [f"{indent}KTAP version 1", f"{indent}1..{len(tests)}"]
    for number, test in enumerate(tests, 1):
        if test.subtests:
            lines += _plan(test.subtests, indent + "  ")
        lines += [f"{indent}# {plain(line)}" for line in test.diagnostics]
        note = f" # {test.note}" if test.note else ""
        result = "ok" if test.passed else "not ok"
        lines.append(f"{indent}{result} {number} {description(test.name)}{note}")
    return lines


def _binary(run: Run, by_record: dict[int, Finding]) -> _Test:
    binary = _Test(run.target.name, diagnostics=[f"sha256 {run.target.sha256}"])
    for function, records in by_function(run).items():
        cases = [_property(record.id, by_record.get(id(record))) for record in records]
        binary.subtests.append(_Test(function, subtests=cases))
    if not run.complete:
        binary.ok, binary.note = False, "ERROR the run was interrupted"
    elif not run.properties:
        binary.ok, binary.note = False, "ERROR the run has no property"
    return binary


def _property(name: str, finding: Finding | None) -> _Test:
    if finding is None:
        return _Test(name)
    detail = [f"{finding.source or finding.run.target.name}: {finding.where}: {finding.message}"]
    if finding.level is Level.NOTE:
        return _Test(name, True, f"SKIP {finding.status}", detail)
    undecided = finding.level is Level.WARNING
    return _Test(name, False, f"ERROR {finding.status}" if undecided else finding.status, detail)
