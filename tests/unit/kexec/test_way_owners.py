"""Each obligation has a property that asks it, and a composed property lacks none of its form's parts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from specs.properties import PROPERTIES, WAY
from verify.errors import InternalError
from verify.kexec.form import Form
from verify.kexec.way import Part, Way
from verify.logic import TRUE
from verify.obligation import Obligation
from verify.theorems import Finding
from verify.verdict import Verdict
from verify.way import _compose, _demand_owners

WHOLE = PROPERTIES["kexec-reaches-entry"]


def form(name: str) -> Form:
    return cast(Form, SimpleNamespace(name=name))


def way(*names: str) -> Way:
    part = Part("machine_kexec", [Obligation(name, "a sentence", (), TRUE) for name in names])
    return cast(Way, SimpleNamespace(parts={"machine_kexec": part}))


def test_an_obligation_that_no_property_asks_is_an_internal_error():
    _demand_owners(way("mk-effect"), form("kimage"))
    with pytest.raises(InternalError, match="no property asks mk-forgotten"):
        _demand_owners(way("mk-effect", "mk-forgotten"), form("kimage"))


def test_the_flush_of_the_list_is_asked_where_the_routine_runs_with_the_mmu_off():
    _demand_owners(way("pl-list-clean"), form("registers"))
    with pytest.raises(InternalError, match="no property asks pl-list-clean"):
        _demand_owners(way("pl-list-clean"), form("kimage"))


@pytest.mark.parametrize("kind", ["scan", "flush", "inval", "copy"])
def test_that_a_loop_of_machine_kexec_ends_is_asked(kind):
    _demand_owners(way(f"mk-{kind}-terminates"), form("kimage"))


def composed(name: str, *left_out: str) -> Finding:
    """The theorem over parts that are all proved, each under the assumption that the theorem discharges."""
    used: list[Any] = ["inputs-clean-to-poc"]
    own = [part for part in WHOLE.parts if PROPERTIES[part].form in (None, name)]
    parts = [
        Finding(PROPERTIES[part], Verdict.PROVED, assumptions=used) for part in own if part not in left_out
    ]
    finding = Finding(WHOLE, Verdict.PROVED)
    _compose(finding, [*parts, finding], form(name))
    return finding


def test_the_theorem_discharges_clean_inputs_by_the_flush_of_the_list():
    found = composed("registers")
    assert (found.verdict, found.assumptions) == (Verdict.PROVED, [])
    assert PROPERTIES["postload-list-clean"] in WAY


def test_the_theorem_is_not_proved_without_the_flush_of_the_list():
    found = composed("registers", "postload-list-clean")
    assert found.verdict is Verdict.UNKNOWN
    assert found.reason == "its part postload-list-clean was not asked for"
    assert composed("kimage").verdict is Verdict.PROVED
