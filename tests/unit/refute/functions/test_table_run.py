"""Runs of trans_pgd_create_copy in the corpus: a copy that lacks an entry is shown by one of them."""

from pathlib import Path

import pytest
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.tables import NAME, TableCopy
from kexec_verify.refute.functions.record import rerun
from kexec_verify.refute.functions.table_run import refute_any_copy
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.target import Kernel, open_target

WHOLE = Path(__file__).parents[4] / "binaries" / "whole"
NOP = 0xD503201F


def kernel(compiler: str) -> Kernel:
    return open_target(str(WHOLE / f"later-4k-{compiler}.elf"))


def proof(target: Kernel) -> TableCopy:
    return TableCopy(KexecContext(target, KimageLayout(648), 4096), lambda facts, goal: False)


def changed(offset: int, word: int) -> Kernel:
    target = kernel("clang")
    symbol = target.symbol(NAME)
    assert symbol is not None
    return target.patched(symbol.address + offset, word.to_bytes(4, "little"))


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_every_entry_of_small_tables_is_copied(compiler: str) -> None:
    assert refute_any_copy(proof(kernel(compiler)), "a property") is None


FAULTS = {
    "pages get no entry": (0x2E0, NOP),
    "a page's entry is at another slot": (0x2E0, 0xF834780A),  # str x10, [x0, x20, LSL #3]
    "pages after a hole get no entry": (0x2D4, 0xB4FFFA8A),  # cbz x10, to where the table is done
    "blocks get no entry": (0x220, NOP),
    "pages get the first entry of their table": (0x2CC, 0x5280_0009),  # mov w9, #0
}


@pytest.mark.parametrize("fault", FAULTS)
def test_entry_that_is_left_out_is_refuted(fault: str) -> None:
    target = changed(*FAULTS[fault])
    found = refute_any_copy(proof(target), "a property")
    assert found is not None
    assert found.function == NAME
    assert rerun(found.as_dict(), target.read) == found


def test_copy_without_dbm_is_not_refuted() -> None:
    assert refute_any_copy(proof(changed(0x2DC, NOP)), "a property") is None


def test_run_that_does_not_end_is_told() -> None:
    with pytest.raises(UnsupportedError):
        refute_any_copy(proof(changed(0x2E4, 0x14000000)), "a property")  # b to itself
