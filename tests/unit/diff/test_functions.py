"""Functions by name: which instructions differ, and what is only somewhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
from kexec_verify.diff.functions import match
from kexec_verify.diff.side import Side
from kexec_verify.target import Kernel, open_target

WHOLE = Path(__file__).resolve().parents[3] / "binaries" / "whole"
NOP = 0xD503201F


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return open_target(str(WHOLE / "seed-after-4k-gcc.elf"))


def patched(kernel: Kernel, name: str, offset: int, word: int) -> Kernel:
    symbol = kernel.symbol(name)
    assert symbol is not None
    return kernel.patched(symbol.address + offset, word.to_bytes(4, "little"))


def test_equal_kernels_have_equal_functions(kernel):
    found = match(Side("OLD", kernel), Side("NEW", kernel))
    assert {f.state for f in found.functions} == {"same"}
    assert not found.changed_old and not found.changed_new


def test_one_patched_instruction_is_the_one_hunk(kernel):
    found = match(Side("OLD", kernel), Side("NEW", patched(kernel, "machine_kexec", 0x58, NOP)))
    (changed,) = [f for f in found.functions if f.state == "changed"]
    assert (changed.name, changed.old_changed, changed.new_changed) == ("machine_kexec", 1, 1)
    (hunk,) = changed.hunks
    assert hunk.old_at == hunk.new_at == "machine_kexec+0x58"
    assert hunk.new == ("d503201f  nop",)


def test_a_branch_to_elsewhere_in_the_function_is_a_change(kernel):
    # b to the instruction behind the one that it went to: without its target the text is the same.
    other = patched(kernel, "arm64_relocate_new_kernel", 0xA4, 0x17FFFFF6)
    found = match(Side("OLD", kernel), Side("NEW", other))
    (changed,) = [f for f in found.functions if f.state == "changed"]
    assert (changed.name, changed.old_changed) == ("arm64_relocate_new_kernel", 1)
