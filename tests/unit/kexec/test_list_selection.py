"""When T10 is asked: of a target with any function of kexec_core that builds lists, or by name."""

from __future__ import annotations

from array import array

import pytest
from kexec_verify.kexec.composition import builds_lists
from kexec_verify.target import Kernel, Segment, SymbolTable
from kexec_verify.target.symbols import ListedNames

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
