"""The assumption ledger: what is believed, why, and which proofs lean on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from specs.assumptions import ASSUMPTIONS
from verify.report.model import AssumptionRecord, Run


def ledger(runs: Sequence[Run]) -> Iterator[str]:
    """Lines on every assumption, as ``runs`` used it."""
    for assumption in ASSUMPTIONS.values():
        records = [r for run in runs for r in run.assumptions if r.id == assumption.id]
        yield assumption.id
        yield f"  {assumption.sentence}"
        yield f"  source: {assumption.source}"
        users = sorted({user for record in records for user in record.used_by})
        if users:
            yield f"  used by: {', '.join(users)}"
        elif runs:
            yield f"  used by: nothing in {len(runs)} run{'s' if len(runs) > 1 else ''}"
        yield f"  can hold: {_witness(records)}"


def _witness(records: Sequence[AssumptionRecord]) -> str:
    for record in records:
        if record.witness:
            return ", ".join(f"{name} = {value}" for name, value in record.witness.items())
    if any(record.stated for record in records):
        return "no witness was found"
    if records:
        return "it is about the environment: no formula states it"
    return "no run states it"
