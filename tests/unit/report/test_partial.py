"""What an interrupted run says: every property it was asked for, and none that is not the target's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kexec_verify.arm64.lift import Code
from kexec_verify.report.partial import Partial
from kexec_verify.specs.properties import PROPERTIES, RELOCATION
from kexec_verify.theorems import Finding, Outcome
from kexec_verify.verdict import Verdict

CODE = Code("arm64_relocate_new_kernel", 0x1000, b"\xc0\x03\x5f\xd6")


def decided(whole: bool, variant: str) -> dict[str, Verdict]:
    """Verdicts of a run that was interrupted when all of the routine was proved."""
    discharger: Any = SimpleNamespace(results=[])
    partial = Partial(CODE, list(PROPERTIES.values()), discharger, whole)
    own = [claim for claim in RELOCATION if claim.variant in (None, variant)]
    recognised: Any = SimpleNamespace(name=variant)
    partial.known(Outcome(CODE, recognised, [Finding(claim, Verdict.PROVED) for claim in own], {}))
    return {finding.claim.id: finding.verdict for finding in partial.outcome().findings}


@pytest.mark.parametrize("variant", ["kimage", "registers"])
def test_what_was_not_reached_is_unknown(variant):
    found = decided(True, variant)
    own = {claim.id for claim in RELOCATION}
    assert {name for name, verdict in found.items() if verdict is Verdict.PROVED} <= own
    rest = {claim.id for claim in PROPERTIES.values() if claim.variant in (None, variant)} - own
    assert {name for name, verdict in found.items() if verdict is Verdict.UNKNOWN} == rest
    assert "kexec-reaches-entry" in rest


def test_the_routine_alone_has_no_more_than_its_own():
    assert set(decided(False, "kimage").values()) == {Verdict.PROVED}
