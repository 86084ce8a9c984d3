"""SARIF 2.1.0: a result for each property that is not proved, its counterexample as a code flow.

Proved properties are rules without a result. An address in a binary is given by symbol and
offset: 64-bit addresses do not fit the integers of most readers of JSON.
"""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

import kexec_verify
import msgspec
from kexec_verify.gate.finding import Finding
from kexec_verify.gate.formats.report import Report
from kexec_verify.report.explain import Explanation, explain
from kexec_verify.report.model import Run
from kexec_verify.report.plain import plain
from kexec_verify.report.status import Level

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {Level.ERROR: "error", Level.WARNING: "warning", Level.NOTE: "note"}


def render(shown: Report) -> str:
    """Return the whole log: one SARIF run for all targets."""
    rules = {record.id: record for record in shown.properties}
    positions = {name: position for position, name in enumerate(rules)}
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "kexec-verify",
                "semanticVersion": kexec_verify.__version__,
                "rules": [
                    {
                        "id": record.id,
                        "shortDescription": {"text": plain(record.statement)},
                        "properties": {"theorem": record.theorem, "tags": ["kexec", "arm64"]},
                    }
                    for record in rules.values()
                ],
            }
        },
        "invocations": [_invocation(shown)],
        "artifacts": [_artifact(item) for item in shown.runs],
        "columnKind": "unicodeCodePoints",
        "results": [_result(shown, finding, positions) for finding in shown.findings],
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return (msgspec.json.format(msgspec.json.encode(log), indent=1) + b"\n").decode()


def _invocation(shown: Report) -> dict[str, Any]:
    notes = [
        {
            "level": "error",
            "message": {"text": plain(f"{reason.target}: {reason.property}: {reason.message}")},
            "descriptor": {"id": str(reason.rule)},
        }
        for reason in shown.decision.reasons
    ]
    return {
        "executionSuccessful": all(run.complete for run in shown.runs),
        "exitCode": shown.decision.exit_status,
        "toolExecutionNotifications": notes,
    }


def _artifact(run: Run) -> dict[str, Any]:
    return {"location": {"uri": _uri(run.target.name)}, "hashes": {"sha-256": run.target.sha256}}


def _uri(path: str) -> str:
    return quote(plain(path).lstrip("/"), safe="/")


def _result(shown: Report, finding: Finding, positions: dict[str, int]) -> dict[str, Any]:
    record = finding.record
    explanation = explain(finding.run, record, shown.lines)
    noticed = _location(finding.run, finding.where, finding.source)
    causes = [_location(finding.run, point.where, point.source) for point in explanation.causes]
    result: dict[str, Any] = {
        "ruleId": record.id,
        "ruleIndex": positions[record.id],
        "level": _LEVELS[finding.level],
        "message": {"text": _message(finding, explanation)},
        "locations": [*causes[:1], noticed][:1],
        "partialFingerprints": {"kexecVerify/v1": _fingerprint(finding)},
        "properties": {"verdict": str(record.verdict), "target": plain(finding.run.target.name)},
    }
    related = [
        {**place, "message": {"text": plain(f"{point}: this instruction {point.sentence}")}}
        for place, point in zip(causes, explanation.causes, strict=True)
    ]
    if related:
        related.append({**noticed, "message": {"text": "The fault is noticed here."}})
        result["relatedLocations"] = related
    if record.waived and record.waiver is not None:
        why = plain(f"{record.waiver.reason} ({record.waiver.reference})")
        # It counts as accepted without a status, which editions of the schema name differently (3.35.3).
        result["suppressions"] = [{"kind": "external", "justification": why}]
    flow = _flow(shown, finding)
    if flow:
        result["codeFlows"] = [{"threadFlows": [{"locations": flow}]}]
    return result


def _message(finding: Finding, explanation: Explanation) -> str:
    """Return the verdict, then the cause, what is missing and what would make it right."""
    parts = [f"{finding.status}: {finding.where}: {finding.message}"]
    parts += [f"Cause: {point}: this instruction {point.sentence}." for point in explanation.causes]
    parts += [explanation.missing] if explanation.missing else []
    return " ".join(plain(part) for part in [*parts, *explanation.remedies])


def _fingerprint(finding: Finding) -> str:
    """Return the same for the same fault in another build: addresses and effects are left out."""
    return hashlib.sha256(f"{finding.record.id} {finding.where}".encode("utf-8", "replace")).hexdigest()[:32]


def _location(run: Run, where: str, source: str) -> dict[str, Any]:
    physical: dict[str, Any]
    file, _, line = source.rpartition(":")
    if file and line.isdigit() and int(line) > 0:
        physical = {"artifactLocation": {"uri": _uri(file)}, "region": {"startLine": int(line)}}
    else:
        physical = {"artifactLocation": {"uri": _uri(run.target.name)}}
    function = where.partition("+")[0]
    return {
        "physicalLocation": physical,
        "logicalLocations": [
            {"name": plain(function), "fullyQualifiedName": plain(where), "kind": "function"},
        ],
    }


def _flow(shown: Report, finding: Finding) -> list[dict[str, Any]]:
    """Return the steps of the counterexample, with the registers that each changed."""
    shown_by = finding.record.counterexample or {}
    recorded = shown_by.get("path", shown_by.get("steps"))
    path = [step for step in recorded if isinstance(step, dict)] if isinstance(recorded, list) else []
    wanted = [step["address"] for step in path if isinstance(step.get("address"), int)]
    sources = shown.lines(finding.run, wanted) if shown.lines and wanted else {}
    steps = []
    for order, step in enumerate(path, 1):
        changed = step.get("changed")
        place = _location(finding.run, str(step.get("where", "")), sources.get(step.get("address", 0), ""))
        place["message"] = {"text": plain(str(step.get("text", "")))}
        entry: dict[str, Any] = {"location": place, "executionOrder": order}
        if isinstance(changed, dict) and changed:
            entry["state"] = {
                plain(name): {"text": f"{value:#x}" if isinstance(value, int) else plain(str(value))}
                for name, value in changed.items()
            }
        steps.append(entry)
    if steps:
        steps[-1]["importance"] = "essential"
    return steps
