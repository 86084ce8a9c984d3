"""Print the assumption ledger: what is assumed, its source, and which proofs use it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kexec_verify.report.live_model import LiveRun
from kexec_verify.report.live_verdicts import in_a_line
from kexec_verify.report.model import AssumptionRecord, Run
from kexec_verify.specs.assumptions import ASSUMPTIONS


def entries(runs: Sequence[Run], lives: Sequence[LiveRun] = ()) -> Iterator[dict[str, Any]]:
    """Yield every assumption as ``runs`` used it, and what live runs have seen of it, as plain data."""
    for assumption in ASSUMPTIONS.values():
        records = [r for run in runs for r in run.assumptions if r.id == assumption.id]
        yield {
            "id": assumption.id,
            "sentence": assumption.sentence,
            "source": assumption.source,
            "used_by": sorted({user for record in records for user in record.used_by}),
            "witness": next((record.witness for record in records if record.witness), {}),
            "live": [told for live in lives if (told := in_a_line(live, assumption.id))],
        }


def ledger(runs: Sequence[Run], lives: Sequence[LiveRun] = ()) -> Iterator[str]:
    """Yield lines on every assumption, as ``runs`` used it."""
    for entry in entries(runs, lives):
        yield entry["id"]
        yield f"  {entry['sentence']}"
        yield f"  source: {entry['source']}"
        if entry["used_by"]:
            yield f"  used by: {', '.join(entry['used_by'])}"
        elif runs:
            yield f"  used by: nothing in {len(runs)} run{'s' if len(runs) > 1 else ''}"
        records = [r for run in runs for r in run.assumptions if r.id == entry["id"]]
        yield f"  can hold: {_witness(records)}"
        yield from (f"  live: {told}" for told in entry["live"])


def _witness(records: Sequence[AssumptionRecord]) -> str:
    for record in records:
        if record.witness:
            return ", ".join(f"{name} = {value}" for name, value in record.witness.items())
    if any(record.stated for record in records):
        return "no witness was found"
    if records:
        return "not checked: it is about the environment and has no formula"
    return "no run lists it"
