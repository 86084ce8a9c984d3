"""JUnit XML: a suite for each target, a case for each property, and a suite for the gate itself.

A refutation is a failure, an undecided property an error, a waived refutation is skipped:
each reader shows those three apart from a passed case.
"""

from __future__ import annotations

from datetime import datetime

from kexec_verify.gate.decide import Reason
from kexec_verify.gate.finding import Finding
from kexec_verify.gate.formats.escape import xml
from kexec_verify.gate.formats.report import Report, headline
from kexec_verify.report.model import Run
from kexec_verify.report.status import Level, function_of


def render(shown: Report) -> str:
    """Return the whole document."""
    by_record = {id(finding.record): finding for finding in shown.findings}
    suites = [_gate(shown), *(_suite(run, by_record) for run in shown.runs)]
    return "\n".join(
        [
            '<?xml version="1.0" encoding="UTF-8"?>',
            '<testsuites name="kexec-verify">',
            *(line for suite in suites for line in suite),
            "</testsuites>",
            "",
        ]
    )


def _gate(shown: Report) -> list[str]:
    """Return a case for each reason, so that a regression or another binary fails as well."""
    reasons = shown.decision.reasons
    lines = [_open("gate", max(1, len(reasons)), len(reasons), 0, 0, 0.0, "")]
    if not reasons:
        lines.append('  <testcase classname="gate" name="decision" time="0"/>')
    for reason in reasons:
        message = xml(reason.message)
        lines += [
            f'  <testcase classname="gate" name="{xml(_title(reason))}" time="0">',
            f'    <failure type="{xml(reason.rule)}" message="{message}">{message}</failure>',
            "  </testcase>",
        ]
    return [*lines, f"  <system-out>{xml(headline(shown))}</system-out>", " </testsuite>"]


def _title(reason: Reason) -> str:
    about = f"{reason.rule}: {reason.target}"
    return f"{about}: {reason.property}" if reason.property else about


def _open(
    name: str, tests: int, failures: int, errors: int, skipped: int, seconds: float, timestamp: str
) -> str:
    at = f' timestamp="{timestamp}"' if timestamp else ""
    return (
        f' <testsuite name="{xml(name)}" tests="{tests}" failures="{failures}" errors="{errors}" '
        f'skipped="{skipped}" time="{seconds:.3f}"{at}>'
    )


def _timestamp(run: Run) -> str:
    """Return the start without its zone, which is UTC: the schema of JUnit files has none."""
    try:
        return datetime.fromisoformat(run.started).replace(tzinfo=None).isoformat(timespec="seconds")
    except ValueError:
        return ""


def _suite(run: Run, by_record: dict[int, Finding]) -> list[str]:
    found = [by_record[id(record)] for record in run.properties if id(record) in by_record]
    levels = [finding.level for finding in found]
    broken = 0 if run.complete else 1
    lines = [
        _open(
            run.target.name,
            len(run.properties) + broken,
            levels.count(Level.ERROR),
            levels.count(Level.WARNING) + broken,
            levels.count(Level.NOTE),
            sum(record.seconds for record in run.properties),
            _timestamp(run),
        )
    ]
    for record in run.properties:
        owner = xml(f"{run.target.name}.{function_of(run, record)}")
        case = f'  <testcase classname="{owner}" name="{xml(record.id)}" time="{record.seconds:.3f}"'
        if id(record) not in by_record:
            lines.append(f"{case}/>")
        else:
            lines += [f"{case}>", _outcome(by_record[id(record)]), "  </testcase>"]
    if not run.complete:
        lines += [
            f'  <testcase classname="{xml(run.target.name)}" name="complete" time="0">',
            '    <error type="incomplete" message="the run was interrupted">the run was interrupted</error>',
            "  </testcase>",
        ]
    return [*lines, " </testsuite>"]


def _outcome(finding: Finding) -> str:
    message = xml(f"{finding.status}: {finding.where}: {finding.message}")
    if finding.level is Level.NOTE:
        return f'    <skipped message="{message}"/>'
    element = "failure" if finding.level is Level.ERROR else "error"
    place = xml(finding.source or finding.run.target.name)
    return f'    <{element} type="{xml(finding.status)}" message="{message}">{place}: {message}</{element}>'
