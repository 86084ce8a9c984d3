"""What a record's property depends on: also the property that shows what it assumes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kexec_verify.report.grounds import unproved
from kexec_verify.verdict import Verdict

COPY = "tables-copy-writable"


def record(name: str, verdict: Verdict, *assumptions: str) -> Any:
    return SimpleNamespace(id=name, verdict=verdict, assumptions=list(assumptions), rests_on=[], parts=[])


def why_not(copy: Verdict | None, *assumptions: str) -> str:
    """Why a proof that assumes these is none, in a run whose copy of the linear map has that verdict."""
    covered = record("reloc-covered", Verdict.PROVED, *assumptions)
    others = [] if copy is None else [record(COPY, copy)]
    run: Any = SimpleNamespace(properties=[covered, *others], functions=[SimpleNamespace(variant="kimage")])
    return unproved(run, covered)


@pytest.mark.parametrize("verdict", [v for v in Verdict if v is not Verdict.PROVED])
def test_refuted_ground_of_an_assumption_blocks(verdict):
    assert COPY in why_not(verdict, "linear-map-copied")


def test_other_assumptions_are_not_blocked():
    assert why_not(Verdict.REFUTED, "machine-quiet") == ""
    assert why_not(Verdict.PROVED, "linear-map-copied") == ""


def test_routine_alone_has_no_ground():
    assert why_not(None, "linear-map-copied") == ""
