"""A property that was asked for is decided, or UNSUPPORTED; it is never missing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from kexec_verify.arm64.lift import Code
from kexec_verify.kexec.abi_variant import AbiVariant
from kexec_verify.kexec.selection import select
from kexec_verify.specs.properties import PROPERTIES, RELOCATION, WHOLE_PATH
from kexec_verify.theorems import Finding, Outcome
from kexec_verify.undecided import account
from kexec_verify.verdict import Verdict

OTHER_VARIANT = next(claim.id for claim in RELOCATION if claim.variant == "kimage")


def accounted(*patterns: str, variant: str | None = "registers", whole: bool = False) -> Outcome:
    """What comes of a run of a routine of ``form``, in which all is proved that is about it."""
    claims = select(patterns)
    decided = [
        Finding(claim, Verdict.PROVED)
        for claim in claims
        if variant is not None and claim.variant in (None, variant) and (whole or claim in RELOCATION)
    ]
    made = cast(AbiVariant, SimpleNamespace(name=variant)) if variant is not None else None
    outcome = Outcome(Code("f", 0, b""), made, decided, {})
    account(outcome, claims, patterns, whole)
    return outcome


def undecided(outcome: Outcome) -> dict[str, str]:
    return {f.claim.id: f.reason for f in outcome.findings if f.verdict is Verdict.UNSUPPORTED}


@pytest.mark.parametrize("name", [claim.id for claim in WHOLE_PATH])
def test_property_of_a_kernel_is_unsupported_of_a_routine_alone(name):
    assert "routine alone" in undecided(accounted(name))[name]


def test_property_of_another_form_is_unsupported():
    assert undecided(accounted(OTHER_VARIANT)) == {
        OTHER_VARIANT: "it is about the ABI variant kimage, and this routine's is registers"
    }
    assert undecided(accounted(OTHER_VARIANT, "reloc-*")).keys() == {OTHER_VARIANT}


def test_glob_leaves_out_what_is_not_about_the_target_and_says_so():
    outcome = accounted("reloc-*")
    assert undecided(outcome) == {}
    assert [note.split()[0] for note in outcome.notes] == [c.id for c in RELOCATION if c.variant == "kimage"]


def test_glob_of_which_nothing_is_decided_is_unsupported():
    assert undecided(accounted("postload-*")).keys() == {
        name for name in PROPERTIES if name.startswith("postload-")
    }


def test_without_names_everything_about_the_target_is_accounted_for():
    assert undecided(accounted()) == {} and accounted().notes == []
    assert undecided(accounted(variant="kimage", whole=True)) == {}
    lost = undecided(accounted(variant=None, whole=True))
    assert set(lost) == set(PROPERTIES)
    assert set(undecided(accounted(variant=None))) == {claim.id for claim in RELOCATION}
