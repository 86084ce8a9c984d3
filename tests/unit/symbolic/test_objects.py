"""Memory of objects: bytes of their own, and what is refused."""

from __future__ import annotations

import pytest
from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import FALSE, TRUE, const, constant, same, var, variables
from kexec_verify.prove.discharge import decide
from kexec_verify.symbolic.objects import Object, Objects

SP, P, I = var("sp"), var("p"), var("i")  # noqa: E741
LOW, HIGH = 0xFFFF_8000_0800_0000, 0xFFFF_8000_0900_0000
FRAME = Object("frame", SP, -64, 0)
THING = Object("thing", P, 0, 64)
IMAGE = Object("image", None, LOW, HIGH, {LOW + 0x100 + i: 0x10 + i for i in range(8)})
WORD = const(0x8877_6655_4433_2211)


def memory() -> Objects:
    return Objects((IMAGE, FRAME, THING))


def test_a_store_to_one_object_says_nothing_of_another():
    before = memory()
    after = before.store(SP - 8, WORD)
    assert same(after.load(P, 8), before.load(P, 8))
    assert same(after.load(const(LOW), 8), before.load(const(LOW), 8))
    assert constant(after.load(SP - 8, 8)) == constant(WORD)
    assert set(variables([after.load(P + I, 8)])) == set(variables([before.load(P + I, 8)]))


def test_what_was_not_stored_is_one_unknown_of_the_object_and_the_moment():
    assert same(memory().load(P + 8, 8), memory().load(P + 8, 8))
    assert not same(memory().load(P + 8, 8), memory().load(P + 16, 8))
    assert not same(memory().load(P + 8, 8), Objects((THING,), "later").load(P + 8, 8))


def test_memory_is_never_changed():
    before = memory()
    found = before.load(P, 8)
    before.store(P, WORD)
    assert same(before.load(P, 8), found)


@pytest.mark.parametrize(
    ("at", "size", "expected"),
    [
        (0, 1, 0x11),
        (7, 1, 0x88),
        (1, 2, 0x3322),
        (3, 4, 0x7766_5544),
        (0, 8, 0x8877_6655_4433_2211),
    ],
)
def test_parts_of_a_stored_word_are_its_bytes(at, size, expected):
    assert constant(memory().store(P, WORD).load(P + at, size)) == expected


def test_parts_are_stored_into_words_wherever_they_lie():
    found = memory().store(P, WORD).store(P + 8, WORD).store(P + 6, const(0xDDCC_BBAA, 32))
    assert constant(found.load(P, 8)) == 0xBBAA_6655_4433_2211
    assert constant(found.load(P + 8, 8)) == 0x8877_6655_4433_DDCC
    assert constant(found.load(P + 5, 8)) == 0x55_4433_DDCC_BBAA_66


def test_a_word_with_one_stored_byte_keeps_its_others():
    before = memory()
    after = before.store(P + 3, const(0xFF, 8))
    word = before.load(P, 8)
    assert decide((), after.load(P, 8) == (word & ~0xFF00_0000 | 0xFF00_0000))


def test_an_unaligned_load_is_made_of_two_words():
    found = memory().load(P + 4, 8)
    low, high = memory().load(P, 8), memory().load(P + 8, 8)
    assert decide((), found == high[31:0].concat(low[63:32]))


def test_what_the_image_holds_for_good_is_known():
    assert constant(memory().load(const(LOW + 0x100), 8)) == 0x1716_1514_1312_1110
    assert constant(memory().load(const(LOW + 0x104), 4)) == 0x1716_1514
    assert constant(memory().load(const(LOW + 0x108), 8)) is None


@pytest.mark.parametrize(
    ("address", "size", "expected"),
    [
        (P, 8, TRUE),
        (P + 56, 8, TRUE),
        (P + 57, 8, FALSE),
        (P + 64, 1, FALSE),
        (P - 1, 1, FALSE),
        (SP - 64, 8, TRUE),
        (SP - 65, 1, FALSE),
        (SP - 4, 8, FALSE),
        (SP, 1, FALSE),
        (const(HIGH - 8), 8, TRUE),
        (const(HIGH - 4), 8, FALSE),
    ],
)
def test_an_access_is_inside_or_it_is_not(address, size, expected):
    assert same(memory().inside(address, size), expected)


def test_an_unknown_offset_is_inside_where_it_is_a_word_of_the_object():
    inside = memory().inside(P + I, 8)
    for value, expected in ((0, True), (56, True), (64, False), (57, False), (4, False), (-8, False)):
        assert decide((("i", const(value) == I),), inside) == expected, value


def test_a_load_at_an_unknown_offset_finds_what_was_stored():
    found = memory().store(P + 16, WORD).load(P + I, 8)
    assert decide((("i", const(16) == I),), found == WORD)
    assert decide((("i", const(24) == I),), found == memory().load(P + 24, 8))
    assert not decide((), found == WORD)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_part_at_an_unknown_offset_is_refused(size):
    with pytest.raises(UnsupportedError, match=f"load of {size} bytes at an unknown offset in thing"):
        memory().load(P + I, size)


@pytest.mark.parametrize("value", [WORD, const(0, 8)])
def test_a_store_at_an_unknown_offset_is_refused(value):
    with pytest.raises(UnsupportedError, match="store at an unknown offset in thing"):
        memory().store(P + I, value)


@pytest.mark.parametrize("address", [var("q"), const(HIGH), const(LOW - 1), P + P, const(0)])
def test_an_address_of_no_object_is_refused(address):
    with pytest.raises(UnsupportedError, match="pointer to no known object"):
        memory().load(address, 8)


def test_a_copy_of_unknown_length_is_refused():
    with pytest.raises(UnsupportedError, match="copies between objects"):
        memory().copy(P, SP - 64, I)


def test_an_object_can_be_added_and_left_out():
    later = memory().adding(Object("q", var("q"), 0, 8))
    assert same(later.inside(var("q"), 8), TRUE)
    with pytest.raises(UnsupportedError):
        later.only({"thing"}).load(var("q"), 8)


def test_what_was_popped_may_not_be_read():
    stored = memory().store(SP - 8, WORD).store(SP - 16, WORD)
    kept = stored.popped("frame", SP - 16, SP - 8)
    assert constant(kept.load(SP - 8, 8)) == constant(WORD)
    with pytest.raises(UnsupportedError, match="load of popped bytes of frame"):
        kept.load(SP - 16, 8)
    again = kept.store(SP - 16, WORD)
    assert constant(again.load(SP - 16, 8)) == constant(WORD)
    assert same(kept.load(P, 8), stored.load(P, 8))


def test_what_is_pushed_is_as_it_was():
    stored = memory().store(SP - 8, WORD)
    assert stored.popped("frame", SP - 8, SP - 32) is stored
    stored.load(SP - 32, 8)


def test_a_stack_pointer_at_an_unknown_distance_is_refused():
    with pytest.raises(UnsupportedError, match="stack pointer at an unknown distance"):
        memory().popped("frame", SP - 16, I)


PAGES = Object("pages", None, 0xFFFF_0000_0000_0000, 0xFFFF_8000_0000_0000, bits=0xFFFF_0000_0000_0000)


def test_an_address_that_is_computed_from_a_physical_one_is_of_the_linear_map():
    found = Objects((IMAGE, THING, PAGES))
    physical = var("physical")
    shown = physical | 0xFFFF_0000_0000_0000
    assert found.find(shown)[0] is PAGES and found.find(shown + 8)[0] is PAGES
    assert same(found.load(shown, 8), found.word("pages", shown))
    assert not decide((), found.inside(shown, 8))
    fits = (("aligned", (physical & 7) == 0), ("in memory", (physical >> 47) == 0))
    assert decide(fits, found.inside(shown, 8))
    for other in (physical, physical | 0xFF00_0000_0000_0000, physical & 0xFFFF_0000_0000_0000):
        with pytest.raises(UnsupportedError):
            found.find(other)


def test_an_object_with_a_base_in_the_linear_map_comes_first():
    page = Object("page", var("physical") | 0xFFFF_0000_0000_0000, 0, 4096)
    found = Objects((PAGES,)).adding(page)
    assert found.find(page.base)[0] is page
    assert found.find(var("other") | 0xFFFF_0000_0000_0000)[0] is PAGES
