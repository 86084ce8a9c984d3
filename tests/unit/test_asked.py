"""A property that was asked for is decided, or UNSUPPORTED; it is never missing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from specs.properties import PROPERTIES, RELOCATION, WAY
from verify.arm64.lift import Code
from verify.asked import account
from verify.kexec.form import Form
from verify.kexec.selection import select
from verify.theorems import Finding, Outcome
from verify.verdict import Verdict

OTHER_FORM = next(claim.id for claim in RELOCATION if claim.form == "kimage")


def accounted(*patterns: str, form: str | None = "registers", whole: bool = False) -> Outcome:
    """What comes of a run of a routine of ``form``, in which all is proved that is about it."""
    claims = select(patterns)
    decided = [
        Finding(claim, Verdict.PROVED)
        for claim in claims
        if form is not None and claim.form in (None, form) and (whole or claim in RELOCATION)
    ]
    made = cast(Form, SimpleNamespace(name=form)) if form is not None else None
    outcome = Outcome(Code("f", 0, b""), made, decided, {})
    account(outcome, claims, patterns, whole)
    return outcome


def undecided(outcome: Outcome) -> dict[str, str]:
    return {f.claim.id: f.reason for f in outcome.findings if f.verdict is Verdict.UNSUPPORTED}


@pytest.mark.parametrize("name", [claim.id for claim in WAY])
def test_property_of_a_kernel_is_unsupported_of_a_routine_alone(name):
    assert "routine alone" in undecided(accounted(name))[name]


def test_property_of_another_form_is_unsupported():
    assert undecided(accounted(OTHER_FORM)) == {
        OTHER_FORM: "it is about routines of the form kimage, and the form of this one is registers"
    }
    assert undecided(accounted(OTHER_FORM, "reloc-*")).keys() == {OTHER_FORM}


def test_glob_leaves_out_what_is_not_about_the_target_and_says_so():
    outcome = accounted("reloc-*")
    assert undecided(outcome) == {}
    assert [note.split()[0] for note in outcome.notes] == [c.id for c in RELOCATION if c.form == "kimage"]


def test_glob_of_which_nothing_is_decided_is_unsupported():
    assert undecided(accounted("postload-*")).keys() == {
        name for name in PROPERTIES if name.startswith("postload-")
    }


def test_without_names_everything_about_the_target_is_accounted_for():
    assert undecided(accounted()) == {} and accounted().notes == []
    assert undecided(accounted(form="kimage", whole=True)) == {}
    lost = undecided(accounted(form=None, whole=True))
    assert set(lost) == set(PROPERTIES)
    assert set(undecided(accounted(form=None))) == {claim.id for claim in RELOCATION}
