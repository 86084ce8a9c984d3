"""Recompute verdicts on properties from a run's record and the specs; list what is undecided."""

from __future__ import annotations

import fnmatch
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from kexec_verify.check.model import ClaimRecord, TextRecord
from kexec_verify.report.grounds import grounds
from kexec_verify.report.model import ObligationRecord, PropertyRecord, Run
from kexec_verify.specs.properties import PROPERTIES
from kexec_verify.verdict import Verdict, join
from kexec_verify.waivers import OWN, Waiver, read_waivers
from msgspec.structs import replace


def _recheck(obligation: ObligationRecord, texts: Mapping[str, TextRecord]) -> Verdict:
    if obligation.verdict is Verdict.PROVED and not texts[obligation.text].holds:
        return Verdict.UNKNOWN
    return obligation.verdict


def claim_of(record: PropertyRecord, texts: Mapping[str, TextRecord]) -> ClaimRecord:
    """Return a property's verdict from its own obligations."""
    verdict, reason = _judge(record, texts)
    required = sorted(f"{obligation.name}\0{obligation.sha256}\n" for obligation in record.obligations)
    digest = hashlib.sha256("".join(required).encode()).hexdigest()
    return ClaimRecord(record.id, record.verdict, verdict, reason, len(required), digest)


def _judge(record: PropertyRecord, texts: Mapping[str, TextRecord]) -> tuple[Verdict, str]:
    known = PROPERTIES.get(record.id)
    if known is None:
        return Verdict.UNKNOWN, "specs/properties.py has no such property"
    if not record.obligations:
        return Verdict.UNKNOWN, "it has no obligation"
    for obligation in record.obligations:
        if not any(fnmatch.fnmatchcase(obligation.name, glob) for glob in known.obligations):
            return Verdict.UNKNOWN, f"{obligation.name} is no obligation of it"
    verdict = join(_recheck(obligation, texts) for obligation in record.obligations)
    if verdict is not Verdict.PROVED:
        return verdict, "not every obligation is proved"
    live = {o.name for o in record.obligations if not o.idle and texts[o.text].live}
    dead = sorted({o.name for o in record.obligations} - live)
    if dead:
        return Verdict.VACUOUS, f"no instance of {dead[0]} has hypotheses that can hold"
    return Verdict.PROVED, ""


def apply_dependencies(claims: Sequence[ClaimRecord], run: Run) -> list[ClaimRecord]:
    """Make a property not proved if one that it depends on or consists of is not."""
    needed = {record.id: grounds(run, record) for record in run.properties}
    found = list(claims)
    changed = True
    while changed:
        changed = False
        proved = {c.id for c in found} - {c.id for c in found if c.recomputed is not Verdict.PROVED}
        for index, one in enumerate(found):
            if one.recomputed is not Verdict.PROVED:
                continue
            lacking = next((ground for ground in needed[one.id] if ground not in proved), None)
            if lacking is not None:
                reason = f"it rests on {lacking}, which is not proved"
                found[index] = replace(one, recomputed=Verdict.UNKNOWN, reason=reason)
                changed = True
    return found


def absent(run: Run) -> list[str]:
    """Return properties of the specs for the run's ABI variant that are missing from the run."""
    variant = run.functions[0].variant if run.functions else ""
    said = {record.id for record in run.properties}
    return [
        name for name, known in PROPERTIES.items() if known.variant in (None, variant) and name not in said
    ]


def unwaivable(run: Run, waivers: Sequence[Waiver] = ()) -> list[str]:
    """Return faults in the run's list of properties: duplicates, and waived ones that no waiver covers.

    A waiver of the record must be declared word for word, for the run's ABI variant, in specs/waivers.toml
    or in ``waivers``. The name of the file that the record gives is not compared: files move.
    """
    counted = Counter((record.id, record.function) for record in run.properties)
    faults = [f"{name}: the run has it {count} times" for (name, _), count in counted.items() if count > 1]
    declared = {
        (w.property, w.variant, w.obligation, w.sentence, w.where, w.reason, w.reference)
        for w in (*read_waivers(), *waivers)
    }
    variant = _waived_variant(run)
    for record in run.properties:
        waiver = record.waiver
        if waiver is not None:
            stated = (waiver.obligation, waiver.sentence, waiver.where, waiver.reason, waiver.reference)
            if (record.id, variant, *stated) not in declared or not record.waived:
                known = f"{OWN} or --waivers" if waivers or waiver.file != OWN else OWN
                faults.append(f"{record.id}: waived by {waiver.file}, but no waiver of {known} covers it")
    return faults


def _waived_variant(run: Run) -> str:
    """Return the run's ABI variant as waivers name it."""
    if not run.functions:
        return ""
    routine = run.functions[0]
    return f"{routine.variant}, tests head" if routine.tests_head else routine.variant


def outcome(
    run: Run,
    claims: Sequence[ClaimRecord],
    faults: Sequence[str],
    sealed: bool,
    uncertified: Mapping[str, int],
) -> tuple[list[str], int]:
    """Return what is undecided, a sentence each, and the exit status.

    :param uncertified: obligations without a requested certificate, by reason.
    """
    unsettled = []
    if not sealed:
        unsettled.append(
            "that run.json is whole: it bears no seal of this user, so it was written elsewhere or edited; "
            "whether obligations or properties are left out is to be seen in the target's bytes alone"
        )
    refuted = False
    for record in run.properties:
        if record.verdict is Verdict.REFUTED:
            refuted = refuted or not record.waived
        elif record.verdict is not Verdict.PROVED:
            unsettled.append(f"{record.id}: the run's own verdict is {record.verdict}")
    required = [obligation for record in run.properties for obligation in record.obligations]
    unproved = sum(obligation.verdict is not Verdict.PROVED for obligation in required)
    lacking = sum(uncertified.values()) - unproved
    if lacking > 0:
        unsettled.append(f"a certificate of {lacking} obligations that are recorded as PROVED")
    if faults or refuted:
        return unsettled, 1
    return unsettled, 3 if unsettled else 0
