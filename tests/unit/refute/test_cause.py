"""The steps that a bad effect comes from, on faulty copies of a shipped routine."""

from __future__ import annotations

from pathlib import Path

import pytest
from kexec_verify.arm64.lift import Code
from kexec_verify.kexec.abi_variant import recognise
from kexec_verify.kexec.locate import find_routine
from kexec_verify.refute.search import search
from kexec_verify.target import open_target

NOP = 0xD503201F


@pytest.fixture(scope="module")
def routine():
    path = Path(__file__).parents[3] / "binaries" / "kimage-mmu-4k-gcc.elf"
    found = find_routine(open_target(str(path)))
    return Code(found.name, found.address, found.code)


def shown(code, offset, word, claim):
    broken = code.patched(code.address + offset, word)
    found = search(broken, recognise(code, 4096), {claim})[claim]
    return found, [(cause.at - code.address, cause.text.split(" ")[0]) for cause in found.causes]


def test_without_maintenance_the_cause_is_the_store(routine):
    found, causes = shown(routine, 0xA0, NOP, "reloc-clean-to-poc")
    assert causes == [(0x7C, "stnp")]
    assert 0 < found.causes[0].step < found.instructions


def test_without_a_dsb_the_cause_has_the_maintenance_too(routine):
    found, causes = shown(routine, 0xB0, NOP, "reloc-clean-to-poc")
    assert [text for _, text in causes] == ["stnp", "dc"]
    assert "no DSB completes it" in found.causes[1].sentence


def test_without_an_isb_the_cause_is_the_change(routine):
    _, causes = shown(routine, 0xF4, NOP, "reloc-context-synced")
    assert causes == [(0xF0, "msr")]


def test_without_ic_no_invalidation_is_among_the_causes(routine):
    _, causes = shown(routine, 0xD8, NOP, "reloc-icache-invalid")
    assert all(text != "ic" for _, text in causes)
