"""When T10 is asked: of a target with any function of kexec_core that builds lists, or by name."""

from __future__ import annotations

from array import array
from datetime import UTC, datetime
from pathlib import Path

import pytest
from kexec_verify.kexec.composition import builds_lists
from kexec_verify.kexec.locate import find_routine
from kexec_verify.kexec.selection import select
from kexec_verify.prove.discharge import Discharger
from kexec_verify.specs.properties import PROPERTIES
from kexec_verify.target import Kernel, Segment, SymbolTable, open_target
from kexec_verify.target.symbols import ListedNames
from kexec_verify.verification import Verification

LISTS = {claim.id for claim in PROPERTIES.values() if claim.theorem == "T10"}
BASE = 0xFFFF_8000_0800_0000


def kernel(*names: str) -> Kernel:
    return Kernel(
        "small", "small", "elf", "0" * 64, None, None, None, (Segment(BASE, bytes(64)),),
        SymbolTable(ListedNames(list(names)), array("Q", [BASE + 8 * n for n in range(len(names))])),
    )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["kimage_add_entry", "kimage_terminate.isra.0", "do_kimage_alloc_init", "kimage_load_segment"],
)
def test_a_target_with_one_of_the_functions_builds_lists(name):
    assert builds_lists(kernel("machine_kexec", name))


def test_other_targets_do_not():
    assert not builds_lists(kernel("machine_kexec", "kimage_alloc_control_pages", "kimage_voffset"))


WHOLE = Path(__file__).parents[3] / "binaries" / "whole" / "later-4k-gcc.elf"


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        ((), set()),
        (("reloc-covered", "list-*"), set()),
        (("list-*",), LISTS),
        (("list-add-entry",), {"list-add-entry"}),
    ],
)
def test_a_target_without_them_is_asked_by_name_only(patterns, found):
    target = open_target(str(WHOLE))
    claims = select(patterns)
    asked = Verification(target, find_routine(target), claims, patterns, (), Discharger(), datetime.now(UTC))
    assert {claim.id for claim in asked._claims if claim.theorem == "T10"} == found
