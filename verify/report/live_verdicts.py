"""What live runs say of a finished run of the same bytes: proofs whose assumptions were seen to be false."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from kexec_verify.report.live_model import Configuration, LiveRun, Seen
from kexec_verify.report.model import PropertyRecord, Run
from kexec_verify.verdict import Verdict

BEGINNING = "contradicted by a live run: "


def with_live(run: Run, live: LiveRun | None) -> Run:
    """Return ``run`` as live runs of the same bytes leave it: what they contradict is not proved.

    A property is contradicted if its proof used an assumption that was seen to be false, or if it rests on
    or is made of a property that is contradicted. Where a conclusion of the proofs is false and no
    assumption explains that, all of them are.
    """
    if live is None or live.sha256 != run.target.sha256:
        return run
    false = {name: _where(live, name) for name in live.false}
    broken = next((what for each in live.configurations if (what := unexplained(each))), "")
    told: dict[str, str] = {}
    for record in run.properties:
        reason = broken or next((false[name] for name in record.assumptions if name in false), "")
        if reason:
            told[record.id] = reason
    while further := _resting(run.properties, told):
        told |= further
    found = [
        _contradicted(record, told[record.id]) if record.id in told else record for record in run.properties
    ]
    return msgspec.structs.replace(run, properties=found)


def unexplained(each: Configuration) -> str:
    """Return a conclusion of the proofs that is false although no assumption is; "" if there is none."""
    false = [check for check in each.checks if check.seen is Seen.FALSE]
    if not false or any(check.assumption for check in false):
        return ""
    return f"{false[0].what} is false ({each.name}): {false[0].value}"


def _where(live: LiveRun, name: str) -> str:
    each = live.false_in(name)[0]
    value = next(c.value for c in each.checks if c.assumption == name and c.seen is Seen.FALSE)
    return f"{name} is false ({each.name}): {value}"


def _resting(records: Sequence[PropertyRecord], told: dict[str, str]) -> dict[str, str]:
    """Return the properties that rest on contradicted ones and are not among them, with the reason."""
    return {
        record.id: told[ground]
        for record in records
        for ground in (*record.rests_on, *record.parts)
        if record.id not in told and ground in told
    }


def _contradicted(record: PropertyRecord, reason: str) -> PropertyRecord:
    if record.verdict is not Verdict.PROVED:
        return record
    return msgspec.structs.replace(record, verdict=Verdict.CONTRADICTED, reason=f"{BEGINNING}{reason}")


def in_a_line(live: LiveRun, name: str) -> str:
    """Return what live runs say of an assumption: ``held in 5 of 5 live runs on 6.1``; "" if nothing."""
    false, held = live.false_in(name), live.held_in(name)
    kernel = live.version or live.name
    if false:
        where = ", ".join(each.name for each in false)
        return f"FALSE in {where} on {kernel}: {_where(live, name).partition('): ')[2]}"
    if not held:
        return ""
    return f"held in {len(held)} of {len(live.configurations)} live runs on {kernel}"
