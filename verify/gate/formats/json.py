"""For scripts: the decision, and what it is on, as JSON."""

from __future__ import annotations

from json import dumps

import msgspec
from kexec_verify.gate.formats.report import Report, next_command
from kexec_verify.report.status import counts, function_of, status

SCHEMA = 1


def render(shown: Report) -> str:
    """Return one JSON object; ``schema`` counts changes of its shape."""
    by_record = {id(finding.record): finding for finding in shown.findings}
    targets = []
    for item in shown.evidence:
        run = item.run
        properties = []
        for record in run.properties:
            finding = by_record.get(id(record))
            properties.append(
                {
                    "id": record.id,
                    "function": function_of(run, record),
                    "status": status(record),
                    "where": finding.where if finding else "",
                    "source": finding.source if finding else "",
                    "reason": record.reason,
                }
            )
        targets.append(
            {
                "name": run.target.name,
                "sha256": run.target.sha256,
                "complete": run.complete,
                "run": str(item.path),
                "properties": properties,
            }
        )
    found = {
        "schema": SCHEMA,
        **msgspec.to_builtins(shown.decision),
        "counts": counts(shown.properties),
        "targets": targets,
        "next": next_command(shown),
    }
    # In ASCII: a reader gets every name as it is, and a terminal no character that it would obey.
    return dumps(found, indent=1).replace("\x7f", "\\u007f") + "\n"
