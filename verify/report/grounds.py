"""Find what a property depends on, by specs/properties.py and not by a record, which may be forged."""

from __future__ import annotations

from kexec_verify.report.model import PropertyRecord, Run
from kexec_verify.specs.properties import PROPERTIES, grounding
from kexec_verify.verdict import Verdict


def grounds(run: Run, record: PropertyRecord) -> list[str]:
    """Return the properties that ``record`` depends on or consists of, for the run's ABI variant.

    The properties that the record itself names are included, so that another version's record is held to its
    own statement. Those of the run that show what the record assumes are too.
    """
    named = [*record.rests_on, *record.parts]
    claim = PROPERTIES.get(record.id)
    if claim is not None:
        named += [*claim.rests_on, *claim.parts]
    named += [other.id for other in run.properties if other.id in grounding(record.assumptions)]
    variant = run.functions[0].variant if run.functions else ""
    return [
        name
        for name in dict.fromkeys(named)
        if name not in PROPERTIES or PROPERTIES[name].variant in (None, variant)
    ]


def unproved(run: Run, record: PropertyRecord) -> str:
    """Return why ``record`` is not proved though it says so: its first unproved ground; else empty."""
    for name in grounds(run, record):
        verdicts = [other.verdict for other in run.properties if other.id == name]
        if not verdicts:
            return f"{name}, which it is made of or rests on, is not in the run"
        bad = next((verdict for verdict in verdicts if verdict is not Verdict.PROVED), None)
        if bad is not None:
            return f"{name}, which it is made of or rests on, is {bad}"
    return ""
