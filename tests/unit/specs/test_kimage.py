"""What a well-formed list is, on small lists of constants; the layout of struct kimage."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from kexec_verify.logic import const, constant
from kexec_verify.specs.kimage import KimageLayout, WellFormed, has, one_flag

PAGE = 4096
D, I, END, S = 1, 2, 4, 8  # noqa: E741


@dataclass(frozen=True)
class Iteration:
    """A word of the list, where it stands, and the destination when it is executed."""

    word: int
    ptr: int
    dest: int


GOOD = (
    Iteration(0x10000 | I, 0x1F00, 0),
    Iteration(0x80000 | D, 0x10000, 0),
    Iteration(0x20000 | S, 0x10008, 0x80000),
    Iteration(0x81000 | S, 0x10010, 0x81000),
    Iteration(0x21000 | S, 0x10018, 0x82000),
    Iteration(END, 0x10020, 0x83000),
)


def well_formed(iterations: tuple[Iteration, ...], page: int = PAGE) -> WellFormed:
    def sequence(pick):
        return lambda i: const(pick(iterations[constant(i)]))

    return WellFormed(
        sequence(lambda t: t.word),
        sequence(lambda t: t.ptr),
        sequence(lambda t: t.dest),
        sequence(lambda t: t.word & ~(page - 1)),
        const(len(iterations) - 1),
        page,
    )


def broken(iterations: tuple[Iteration, ...]) -> set[str]:
    """The promises that some words of the list break."""
    spec, indices = well_formed(iterations), [const(i) for i in range(len(iterations))]
    found = {name for name in ("W3", "W4") for i in indices if getattr(spec, name)(i).is_false()}
    for name in ("W5", "W6", "W7"):
        if any(getattr(spec, name)(i, j).is_false() for i in indices for j in indices):
            found.add(name)
    return found


def changed(index: int, **fields: int) -> tuple[Iteration, ...]:
    from dataclasses import replace

    return (*GOOD[:index], replace(GOOD[index], **fields), *GOOD[index + 1 :])


def test_good_list_keeps_every_promise():
    assert broken(GOOD) == set()


@pytest.mark.parametrize(
    "iterations, promises",
    [
        (changed(1, word=0x80000 | D | END), {"W3"}),
        (changed(5, word=0x22000 | I), {"W3"}),
        (changed(2, dest=0x80008), {"W4"}),
        (changed(4, dest=0x80000), {"W5"}),
        (changed(2, word=0x82000 | S), {"W6"}),
        (changed(4, word=0x81000 | S), {"W6"}),
        (changed(5, ptr=0x82FF8), {"W7"}),
        (changed(1, ptr=0x80000), {"W7"}),
    ],
    ids=["early DONE", "no DONE", "partial page", "two for one", "source overwritten later",
         "source overwritten before", "DONE in a destination", "list in a destination"],
)  # fmt: skip
def test_fault_breaks_its_promise_and_no_other(iterations, promises):
    assert broken(iterations) == promises


def test_page_that_is_its_own_destination_is_allowed():
    assert broken(changed(2, word=0x80000 | S)) == set()


def test_copies_are_source_words_before_the_last():
    spec = well_formed(GOOD)
    assert [spec.copies(const(i)).is_true() for i in range(6)] == [False, False, True, True, True, False]


def test_words_exist_up_to_done():
    spec = well_formed(GOOD)
    assert spec.exists(const(5)).is_true()
    assert spec.exists(const(6)).is_false()


@pytest.mark.parametrize("page", [4096, 16384, 65536])
def test_page_is_the_first_address_of_the_page(page):
    spec = well_formed(GOOD, page)
    assert constant(spec.page(const(5 * page + 8))) == 5 * page
    assert constant(spec.page(const(6 * page - 8))) == 5 * page


@pytest.mark.parametrize("flags", range(16))
def test_one_flag_is_exactly_one(flags):
    assert one_flag(const(0x80000 | flags)).is_true() == (flags.bit_count() == 1)


@pytest.mark.parametrize("flag", [D, I, END, S])
def test_has_looks_at_one_bit(flag):
    assert has(const(0xFFF0 | flag), flag).is_true()
    assert has(const(0xFFFF & ~flag), flag).is_false()


def test_layout_is_that_of_linux_4_13_to_6_12():
    layout = KimageLayout(648)
    fields = ["head", "start", "dtb_mem", "kern_reloc", "el2_vectors", "ttbr0", "ttbr1", "zero_page"]
    offsets = [getattr(layout, name) for name in [*fields, "phys_offset", "t0sz", "size"]]
    assert offsets == [0, 24, 648, 656, 664, 672, 680, 688, 696, 704, 712]
