"""The routine's obligations: each belongs to a property, and no property is without."""

from __future__ import annotations

import fnmatch
import re
from functools import cache
from pathlib import Path

import pytest
from kexec_verify.arm64.lift import Code
from kexec_verify.kexec import list_induction, relocation
from kexec_verify.kexec.abi_variant import AbiVariant, recognise
from kexec_verify.kexec.locate import find_routine
from kexec_verify.obligation import Obligation
from kexec_verify.specs.assumptions import ASSUMPTIONS
from kexec_verify.specs.properties import PROPERTIES, RELOCATION
from kexec_verify.target import open_target
from kexec_verify.theorems import has_obligation

BINARIES = Path(__file__).resolve().parents[3] / "binaries"
VARIANTS = ["kimage-mmu-4k-gcc", "regs-done-test-4k-gcc", "regs-no-test-4k-clang", "regs-no-test-c-16k-gcc"]


@cache
def built(name: str) -> tuple[Code, AbiVariant, list[Obligation]]:
    found = find_routine(open_target(str(BINARIES / f"{name}.elf")))
    code = Code(found.name, found.address, found.code)
    variant = recognise(code)
    # No invariant is needed to see which obligations there are: a filter that drops all candidates is quick.
    obligations = relocation.build(code, variant, lambda hypotheses, goal: goal.is_true())
    return code, variant, obligations + list_induction.build(variant.page_size)


@pytest.mark.parametrize("name", VARIANTS)
def test_no_obligation_is_lost(name):
    _, variant, obligations = built(name)
    claims = [claim for claim in PROPERTIES.values() if claim.variant in (None, variant.name)]
    lost = {o.name for o in obligations if not any(has_obligation(claim, o.name) for claim in claims)}
    assert lost == set()


@pytest.mark.parametrize("name", VARIANTS)
def test_every_property_of_the_form_has_an_obligation(name):
    _, variant, obligations = built(name)
    for claim in RELOCATION:
        if claim.variant in (None, variant.name):
            assert any(has_obligation(claim, o.name) for o in obligations), claim.id


def test_every_glob_of_a_property_matches_an_obligation():
    names = {o.name for variant in VARIANTS for o in built(variant)[2]}
    dead = {
        (claim.id, pattern)
        for claim in RELOCATION
        for pattern in claim.obligations
        # Loops that need no invariant of a kind owe none: flush, inval and scan depend on the compiler.
        if not fnmatch.filter(names, pattern) and not re.search("flush|inval|scan", pattern)
    }
    assert dead == set()


@pytest.mark.parametrize("name", VARIANTS)
def test_every_instruction_is_covered(name):
    code, _, obligations = built(name)
    covered = [o for o in obligations if o.name == "reloc-covered"]
    assert [o.at for o in covered] == list(code.addresses)
    assert all(o.goal.is_true() for o in covered)


@pytest.mark.parametrize("name", VARIANTS)
def test_obligations_are_named_and_said_in_words(name):
    code, _, obligations = built(name)
    for o in obligations:
        assert re.fullmatch(r"reloc(-[a-z0-9]+)+", o.name)
        assert o.sentence
        assert o.at is None or o.at in code.addresses
        assert set(o.path) <= set(code.addresses)


@pytest.mark.parametrize("name", VARIANTS)
def test_hypotheses_that_are_assumptions_fit_the_form(name):
    _, variant, obligations = built(name)
    labels = {label for o in obligations for label, _ in o.hypotheses}
    for label in labels & set(ASSUMPTIONS):
        assert ASSUMPTIONS[label].variant in (None, variant.name), label
    # A hypothesis that looks like an identifier is one of the assumptions.
    assert {label for label in labels if re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", label)} <= set(ASSUMPTIONS)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_access_is_asked_about(name):
    _, _, obligations = built(name)
    regions = {o.at for o in obligations if o.name == "reloc-access-region"}
    assert regions == {o.at for o in obligations if o.name == "reloc-access-aligned"}
    code = built(name)[0]
    accesses = {a for a in code.addresses if re.match(r"(ld|st)", code.at(a).text)}
    assert regions == accesses
