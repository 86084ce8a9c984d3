"""The copy of the linear map in the corpus's kernels: proved, and refused once an instruction is wrong."""

from pathlib import Path

import pytest
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.table_paths import TablePaths
from kexec_verify.kexec.tables import NAME, TableCopy
from kexec_verify.prove.discharge import Discharger
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.target import Kernel, open_target

from tests.unit.kexec.test_context import RET, branch, call, with_function

WHOLE = Path(__file__).parents[3] / "binaries" / "whole"
PAGE, NOP = 4096, 0xD503201F


def kernel(compiler: str) -> Kernel:
    return open_target(str(WHOLE / f"later-4k-{compiler}.elf"))


def context(target: Kernel) -> KexecContext:
    return KexecContext(target, KimageLayout(648), PAGE)


def failing(target: Kernel) -> tuple[TableCopy, list[str]]:
    """The proof, and what is not proved of it."""
    discharger = Discharger()
    proof = TableCopy(context(target), discharger.decide)
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


LAST = 0x2E0  # str x10, [x0, x9, lsl #3]: of a page's entry
STORE, STORE_HALF = 0xF829780A, 0xB829780A
SET_AP2 = 0xB279014A  # orr x10, x10, #1 << 7
ALLOCATES = (0x44, 0xE8, 0x1B0, 0x264)  # blr x8
TESTS_FOR_TABLE, COPIES_BLOCK = 0x258, 0x218
BLR, BR = 0xD63F0100, 0xD61F0100  # x8
OTHER = "part_of_the_copy"


def outlined(places: tuple[int, ...], *words: int) -> Kernel:
    """The kernel in which each of the instructions is a call of one further function."""
    target = kernel("clang")
    symbol = target.symbol(NAME)
    assert symbol is not None
    at = target.segments[-1].end + 0x10000 & -16
    target = with_function(target, OTHER, at, b"".join(word.to_bytes(4, "little") for word in words))
    for place in (symbol.address + place for place in places):
        assert target.read(place, 4) in (STORE.to_bytes(4, "little"), BLR.to_bytes(4, "little"))
        target = target.patched(place, call(place, at).to_bytes(4, "little"))
    return target


@pytest.mark.parametrize("words", [(STORE, RET), (NOP, NOP, STORE, RET)])
def test_a_small_callee_is_run_in_place(words: tuple[int, ...]) -> None:
    proof, wrong = failing(outlined((LAST,), *words))
    assert not wrong
    assert [piece.name for piece in proof.code.continuations] == [OTHER]


@pytest.mark.parametrize("words", [(SET_AP2, STORE, RET), (STORE_HALF, RET), (STORE, SET_AP2, STORE, RET)])
def test_what_a_small_callee_stores_must_be_right(words: tuple[int, ...]) -> None:
    _, wrong = failing(outlined((LAST,), *words))
    assert wrong


def test_pages_may_be_taken_by_a_small_callee() -> None:
    """The last level is still told from those above it, which take a page for each entry."""
    target = outlined(ALLOCATES, BR)
    _, wrong = failing(target)
    assert not wrong
    symbol = target.symbol(NAME)
    assert symbol is not None
    # A table is taken for a block: the copy would share it.
    at = symbol.address + TESTS_FOR_TABLE
    word = branch(at, symbol.address + COPIES_BLOCK)
    _, wrong = failing(target.patched(at, word.to_bytes(4, "little")))
    assert wrong


def test_a_callee_with_a_loop_is_refused() -> None:
    proof = TableCopy(context(outlined((LAST,), STORE, 0xB5FFFFEA, RET)), Discharger().decide)
    with pytest.raises(UnsupportedError, match=f"call of {OTHER}, which has no contract"):
        proof.prove()


def test_a_callee_that_returns_elsewhere_is_refused() -> None:
    moves = 0xAA0803FE  # mov x30, x8
    proof = TableCopy(context(outlined((LAST,), STORE, moves, RET)), Discharger().decide)
    with pytest.raises(UnsupportedError, match="return to an address that is not known"):
        proof.prove()


def test_a_branch_to_a_computed_address_is_refused() -> None:
    computes = 0x8B080108  # add x8, x8, x8
    proof = TableCopy(context(outlined(ALLOCATES, computes, BR)), Discharger().decide)
    with pytest.raises(UnsupportedError, match="way out"):
        proof.prove()


TESTS_DIRTY, SKIPS, SETS_DBM = 0xB6B8006A, 0x14000002, 0xB24D014A  # tbz x10, #55, +0xc; b +8


def joining(either: int, other: int) -> Kernel:
    """The kernel in which the copy of a page's entry is changed on one of two ways before it is stored."""
    target = outlined((LAST,), TESTS_DIRTY, either, SKIPS, other, STORE, NOP)
    own, part = target.symbol(NAME), target.symbol(OTHER)
    assert own is not None and part is not None
    here, back = own.address + LAST, part.address + 5 * 4
    target = target.patched(here, branch(here, part.address).to_bytes(4, "little"))
    return target.patched(back, branch(back, here + 4).to_bytes(4, "little"))


def test_ways_of_one_entry_may_come_together_before_the_store() -> None:
    proof, wrong = failing(joining(SETS_DBM, NOP))
    assert not wrong
    join = proof.code.continuations[0].address + 4 * 4
    assert join in TablePaths(proof.context, proof.code, 2).run().cuts
    assert join not in proof.known


def test_each_way_of_an_entry_must_be_right() -> None:
    _, wrong = failing(joining(SETS_DBM, SET_AP2))
    assert wrong
