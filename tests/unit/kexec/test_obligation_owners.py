"""Each obligation has a property that asks it, and a composed property lacks none of its form's parts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from kexec_verify.errors import InternalError
from kexec_verify.kernel_proof import _compose, _demand_owners
from kexec_verify.kexec.abi_variant import AbiVariant
from kexec_verify.kexec.composition import Composition, Part
from kexec_verify.logic import TRUE
from kexec_verify.obligation import Obligation
from kexec_verify.specs.properties import PROPERTIES, WHOLE_PATH
from kexec_verify.theorems import Finding
from kexec_verify.verdict import Verdict

WHOLE = PROPERTIES["kexec-reaches-entry"]


def variant(name: str) -> AbiVariant:
    return cast(AbiVariant, SimpleNamespace(name=name))


def composition(*names: str) -> Composition:
    part = Part("machine_kexec", [Obligation(name, "a sentence", (), TRUE) for name in names])
    return cast(Composition, SimpleNamespace(parts={"machine_kexec": part}))


def test_an_obligation_that_no_property_asks_is_an_internal_error():
    _demand_owners(composition("mk-effect"), variant("kimage"))
    with pytest.raises(InternalError, match="no property asks mk-forgotten"):
        _demand_owners(composition("mk-effect", "mk-forgotten"), variant("kimage"))


def test_the_flush_of_the_list_is_asked_where_the_routine_runs_with_the_mmu_off():
    _demand_owners(composition("pl-list-clean"), variant("registers"))
    with pytest.raises(InternalError, match="no property asks pl-list-clean"):
        _demand_owners(composition("pl-list-clean"), variant("kimage"))


@pytest.mark.parametrize("kind", ["scan", "flush", "inval", "copy"])
def test_that_a_loop_of_machine_kexec_ends_is_asked(kind):
    _demand_owners(composition(f"mk-{kind}-terminates"), variant("kimage"))


def composed(name: str, *left_out: str) -> Finding:
    """The theorem over parts that are all proved, each under the assumption that the theorem discharges."""
    used: list[Any] = ["inputs-clean-to-poc"]
    own = [part for part in WHOLE.parts if PROPERTIES[part].variant in (None, name)]
    parts = [
        Finding(PROPERTIES[part], Verdict.PROVED, assumptions=used) for part in own if part not in left_out
    ]
    finding = Finding(WHOLE, Verdict.PROVED)
    _compose(finding, [*parts, finding], variant(name))
    return finding


def test_the_theorem_discharges_clean_inputs_by_the_flush_of_the_list():
    found = composed("registers")
    assert (found.verdict, found.assumptions) == (Verdict.PROVED, [])
    assert PROPERTIES["postload-list-clean"] in WHOLE_PATH


def test_the_theorem_is_not_proved_without_the_flush_of_the_list():
    found = composed("registers", "postload-list-clean")
    assert found.verdict is Verdict.UNKNOWN
    assert found.reason == "its part postload-list-clean was not asked for"
    assert composed("kimage").verdict is Verdict.PROVED
