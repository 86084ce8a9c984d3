"""Properties and assumptions: identifiers that stay, and nothing that is named is missing or unused."""

from __future__ import annotations

import ast
import functools
import re
from dataclasses import replace
from pathlib import Path

import pytest
from kexec_verify.logic import const
from kexec_verify.specs import boot_protocol
from kexec_verify.specs.assumptions import ASSUMPTIONS
from kexec_verify.specs.properties import PROPERTIES

ROOT = Path(__file__).resolve().parents[3]
KEBAB = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+")
VARIANTS = {None, "kimage", "registers"}


@functools.cache
def strings_of(*directories: str) -> set[str]:
    """Every string constant in the code below some directories, docstrings included."""
    found = set()
    for directory in directories:
        for path in sorted((ROOT / directory).rglob("*.py")):
            if path.name != "assumptions.py":
                for node in ast.walk(ast.parse(path.read_text())):
                    if isinstance(node, ast.Constant) and isinstance(node.value, str):
                        found.add(node.value)
    return found


def test_identifiers_of_properties_are_stable():
    # Reports, gates and users know them: a renamed one is a broken promise. Add, never rename.
    assert {
        "reloc-covered",
        "reloc-step",
        "reloc-memory-safe",
        "reloc-dest-pages",
        "reloc-terminates",
        "reloc-entry-state",
        "reloc-clean-to-poc",
        "reloc-icache-invalid",
        "reloc-context-synced",
        "reloc-break-before-make",
    } <= set(PROPERTIES)


@pytest.mark.parametrize("claim", PROPERTIES.values(), ids=list(PROPERTIES))
def test_property_is_complete(claim):
    assert KEBAB.fullmatch(claim.id)
    assert re.fullmatch(r"T[1-9]|T1[01]", claim.theorem)
    assert claim.statement.endswith(".")
    assert claim.obligations
    assert set(claim.assumptions) <= set(ASSUMPTIONS)
    assert claim.variant in VARIANTS


@pytest.mark.parametrize("claim", PROPERTIES.values(), ids=list(PROPERTIES))
def test_property_rests_on_earlier_ones_only(claim):
    order = list(PROPERTIES)
    assert all(order.index(ground) < order.index(claim.id) for ground in claim.rests_on)


@pytest.mark.parametrize("assumption", ASSUMPTIONS.values(), ids=list(ASSUMPTIONS))
def test_assumption_says_what_and_whence(assumption):
    assert KEBAB.fullmatch(assumption.id)
    assert assumption.sentence.endswith(".")
    assert assumption.source
    assert assumption.variant in VARIANTS


@pytest.mark.parametrize("name", list(ASSUMPTIONS))
def test_assumption_is_used(name):
    assert name in strings_of("verify", "specs")


DTB = 0x4000_0000


@pytest.mark.parametrize(
    "changed, holds",
    [({}, True), ({"x0": 0}, False), ({"x1": 1}, False), ({"x2": 1}, False), ({"x3": 1}, False)],
)
def test_boot_protocol_registers(changed, holds):
    registers = {"x0": DTB, "x1": 0, "x2": 0, "x3": 0} | changed
    terms = {name: const(value) for name, value in registers.items()}
    assert boot_protocol.registers(terms, const(DTB)).is_true() == holds


@pytest.mark.parametrize("sctlr, off", [(0x3050_0800, True), (0, True), (1, False), (4, False), (5, False)])
def test_mmu_is_off_with_neither_m_nor_c(sctlr, off):
    assert boot_protocol.mmu_off(const(sctlr)).is_true() == off


@pytest.mark.parametrize("daif", [0x3C0, 0x380, 0x340, 0x2C0, 0x1C0, 0])
def test_masked_takes_all_four(daif):
    assert boot_protocol.masked(const(daif)).is_true() == (daif == 0x3C0)


@pytest.mark.parametrize(
    "changed, holds",
    [({}, True), *(({register: 8}, False) for register in ("x0", "x1", "x2", "x3", "x4"))],
)
def test_soft_restart_takes_start_dtb_and_two_zeros(changed, holds):
    registers = {"x0": 1, "x1": 0x8000, "x2": DTB, "x3": 0, "x4": 0} | changed
    terms = {name: const(value) for name, value in registers.items()}
    assert boot_protocol.soft_restart_call(terms, const(0x8000), const(DTB)).is_true() == holds


def test_property_cannot_be_changed_in_place():
    claim = PROPERTIES["reloc-step"]
    with pytest.raises(AttributeError):
        claim.obligations = ()
    assert replace(claim, obligations=()) != claim
