"""The copy of the linear map in the corpus's kernels: proved, and refused once an instruction is wrong."""

from pathlib import Path

import pytest
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.tables import NAME, TableCopy
from kexec_verify.prove.discharge import Discharger
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.target import Kernel, open_target

WHOLE = Path(__file__).parents[3] / "binaries" / "whole"
PAGE, NOP = 4096, 0xD503201F


def kernel(compiler: str) -> Kernel:
    return open_target(str(WHOLE / f"later-4k-{compiler}.elf"))


def failing(target: Kernel) -> tuple[TableCopy, list[str]]:
    """The proof, and what is not proved of it."""
    discharger = Discharger()
    proof = TableCopy(KexecContext(target, KimageLayout(648), PAGE), discharger.decide)
    try:
        proof.prove()
    except UnsupportedError:
        # Writable only where boot sets PTE_DIRTY, and the corpus has no function that boot maps memory with.
        return proof, ["no protections"]
    results = discharger.discharge(proof.obligations)
    wrong = [r for r in results if r.verdict.name != "PROVED"]
    return proof, [r.obligation.sentence for r in wrong]


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_each_leaf_of_the_copy_is_writable(compiler: str) -> None:
    proof, wrong = failing(kernel(compiler))
    assert not wrong
    assert not proof.needs_dirty


FAULTS = {
    "a page keeps AP[2]": (0x2D8, NOP),
    "a block keeps AP[2]": (0x218, NOP),
    "a block of the top level keeps AP[2]": (0x88, NOP),
    "another attribute is changed": (0x2DC, 0xB24E014A),  # orr x10, x10, #1 << 50
    "VALID is cleared": (0x70, 0x9280103A),  # mov x26, #-0x82
    "half an entry is stored": (0x2E0, 0xB829780A),  # str w10
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_copy_is_not_proved(fault: str) -> None:
    offset, word = FAULTS[fault]
    target = kernel("clang")
    symbol = target.symbol(NAME)
    assert symbol is not None
    _, wrong = failing(target.patched(symbol.address + offset, word.to_bytes(4, "little")))
    assert wrong


def test_a_copy_without_dbm_is_still_writable() -> None:
    target = kernel("clang")
    symbol = target.symbol(NAME)
    assert symbol is not None
    _, wrong = failing(target.patched(symbol.address + 0x2DC, NOP.to_bytes(4, "little")))
    assert not wrong
