"""The list under construction: where each word is, and what its invariants say, on concrete lists."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kexec_verify.logic import Term, const, constant
from kexec_verify.specs.address_map import AddressMap
from kexec_verify.specs.image_builder import ListBuilder, Pages, Segment

PAGE, OFFSET, MEMSTART, FIRST = 4096, 0xFFFF_0000_0000_0000, 0x4000_0000, 0xFFFF_FC00_0000_0000
WORDS = PAGE // 8
KIMAGE = OFFSET + 0x40 * PAGE
NUMBERS = (0x60, 0x55, 0x71)  # of the list pages, in no order


def pages() -> Pages:
    addresses = AddressMap(const(0), const(MEMSTART), OFFSET, OFFSET + (1 << 47))
    return Pages(addresses, PAGE, FIRST)


def value(term: Term) -> int:
    found = constant(term)
    assert found is not None
    return found


def place(i: int) -> int:
    return OFFSET + NUMBERS[(i - 1) // WORDS] * PAGE + (i - 1) % WORDS * 8


def word(i: int) -> int:
    if i % WORDS == 0:
        return MEMSTART + NUMBERS[i // WORDS] * PAGE | 2
    return MEMSTART + (0x100 + i) * PAGE | (1 if i == 1 else 8)


def built(length: int, words: dict[int, int] | None = None, *, entry: int | None = None) -> ListBuilder:
    """The list of ``length`` words as the kernel builds it, but for the words given."""
    held = {i: word(i) for i in range(length)} | {length: 0} | (words or {})
    memory = {place(i): held[i] for i in held if i}
    at = place(length) if length else KIMAGE
    return ListBuilder(
        pages(), const(KIMAGE), const(held[0]), const(at if entry is None else entry),
        const((at & -PAGE) + PAGE - 8 if length else KIMAGE), lambda a: const(memory.get(value(a), 0xBAD)),
        const(length), lambda j: const(NUMBERS[value(j)] if value(j) < 3 else 0),
        lambda n: const(NUMBERS.index(value(n)) if value(n) in NUMBERS else 99), Segment(const(0), const(0)),
    )  # fmt: skip


LENGTHS = (0, 2, 3, WORDS - 1, WORDS, WORDS + 2, 2 * WORDS)


@pytest.mark.parametrize("length", LENGTHS)
def test_a_list_as_the_kernel_builds_it_has_the_invariants(length):
    list_ = built(length)
    assert list_.cursor().is_true()
    assert all(list_.shape(const(i)).is_true() for i in range(length))
    assert all(list_.list_page(const(j)).is_true() for j in range(3))


@pytest.mark.parametrize("length", [1, WORDS + 1])
def test_a_page_is_not_chained_for_nothing(length):
    assert built(length).counted().is_false()


@pytest.mark.parametrize("entry", [place(2), place(4), KIMAGE])
def test_entry_is_the_free_word(entry):
    assert built(3, entry=entry).cursor().is_false()


def test_the_free_word_is_zero():
    assert built(3, {3: 8}).cursor().is_false()


@pytest.mark.parametrize("i", [0, WORDS])
@pytest.mark.parametrize("flag", [0, 1, 4, 8])
def test_only_an_indirection_chains(i, flag):
    assert built(WORDS + 2, {i: word(i) & ~2 | flag}).shape(const(i)).is_false()


@pytest.mark.parametrize("low", [0, 2, 4, 3, 9, 16 | 8])
def test_other_words_are_destinations_and_sources(low):
    assert built(3, {2: MEMSTART | low}).shape(const(2)).is_false()


def test_a_segment_has_the_pages_that_it_overlaps():
    start = MEMSTART + 5 * PAGE
    found = [n for n in range(10) if Segment(const(start), const(2 * PAGE)).has(pages(), const(n)).is_true()]
    assert found == [5, 6]
    inside = replace(built(2), segment=Segment(const(MEMSTART + NUMBERS[0] * PAGE), const(1)))
    assert inside.list_page(const(0)).is_false()


def test_a_list_page_is_not_free():
    assert built(2).is_free(const(NUMBERS[0])).is_false()
    assert built(2).is_free(const(0x99)).is_true()
    assert built(2).is_free(const(pages().count)).is_false()


@pytest.mark.parametrize(("length", "after"), [(0, 2), (2, 3), (WORDS - 1, WORDS), (WORDS, WORDS + 2)])
def test_appended_is_one_word_more(length, after):
    before, given = built(length), word(after - 1)
    same = {"page": before.page, "rank": before.rank}
    assert before.appended(replace(built(after), **same), const(given), const(0)).is_true()
    assert before.appended(replace(built(after), **same), const(given ^ 9), const(0)).is_false()
    assert before.appended(replace(built(length), **same), const(given), const(0)).is_false()


def test_terminated_is_exactly_done():
    assert built(3).terminated(built(3, {3: 4}), const(1)).is_true()
    assert built(3).terminated(built(3, {3: 12}), const(1)).is_false()
    assert built(3).terminated(built(3, {3: 4, 1: 9}), const(1)).is_false()
