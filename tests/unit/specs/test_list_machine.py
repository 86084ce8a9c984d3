"""The list machine on whole numbers: lists executed by hand."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from kexec_verify.specs.relocate_kernel import WORD_BYTES, Kind, ListMachine, done, is_kind

PAGE = 4096
D, I, END, S = 1, 2, 4, 8  # noqa: E741


@dataclass(frozen=True)
class Words:
    """Memory as a dictionary; the words of a page that nobody set are their own address."""

    set: dict[int, int] = field(default_factory=dict)

    def read(self, address: int) -> int:
        return self.set.get(address, address)

    def copy(self, dest: int, source: int, length: int) -> Words:
        moved = {dest + i: self.read(source + i) for i in range(0, length, WORD_BYTES)}
        return Words({**self.set, **moved})


def kind_of(entry: int) -> Kind:
    (kind,) = [kind for kind in Kind if is_kind(entry, kind)]
    return kind


def machine(head: int, lists: dict[int, list[int]], phys_offset: int = 0) -> ListMachine:
    words = {at + 8 * i - phys_offset: word for at, page in lists.items() for i, word in enumerate(page)}
    return ListMachine(head, 0, 0, Words(words), PAGE, phys_offset)


def run(state: ListMachine) -> ListMachine:
    for _ in range(1000):
        if done(state.entry):
            return state
        state = state.iteration(kind_of(state.entry))
    raise AssertionError("no DONE in 1000 words")


def test_list_of_two_segments_over_two_pages():
    lists = {
        0x10000: [0x80000 | D, 0x20000 | S, 0x21000 | S, 0x11000 | I],
        0x11000: [0x22000 | S, 0x90000 | D, 0x23000 | S, END],
    }
    end = run(machine(0x10000 | I, lists))
    copied = {0x80000: 0x20000, 0x81000: 0x21000, 0x82000: 0x22000, 0x90000: 0x23000}
    for dest, source in copied.items():
        for offset in (0, 8, PAGE - 8):
            assert end.memory.read(dest + offset) == source + offset
    assert end.memory.read(0x83000) == 0x83000
    assert end.memory.read(0x91000) == 0x91000
    assert (end.entry, end.ptr, end.dest) == (END, 0x11020, 0x91000)


def test_destination_without_sources_copies_nothing():
    lists = {0x10000: [0x80000 | D, 0x90000 | D, 0x20000 | S, END]}
    end = run(machine(0x10000 | I, lists))
    assert end.memory.read(0x80000) == 0x80000
    assert end.memory.read(0x90000) == 0x20000


def test_indirection_keeps_the_destination():
    lists = {0x10000: [0x80000 | D, 0x11000 | I], 0x11000: [0x20000 | S, END]}
    assert run(machine(0x10000 | I, lists)).memory.read(0x80000) == 0x20000


def test_pages_are_copied_in_order():
    lists = {0x10000: [0x80000 | D, 0x20000 | S, 0x80000 | S, END]}
    end = run(machine(0x10000 | I, lists))
    assert end.memory.read(0x81000) == 0x20000


def test_page_copied_onto_itself_stays():
    lists = {0x10000: [0x80000 | D, 0x80000 | S, 0x20000 | S, END]}
    end = run(machine(0x10000 | I, lists))
    assert (end.memory.read(0x80008), end.memory.read(0x81000)) == (0x80008, 0x20000)


def test_word_without_a_flag_is_skipped():
    lists = {0x10000: [0x80000 | D, 0x70000, 0x20000 | S, END]}
    assert run(machine(0x10000 | I, lists)).memory.read(0x80000) == 0x20000


def test_head_with_done_stops_at_once():
    before = machine(END, {})
    assert run(before) is before


def test_pages_are_seen_at_their_address_less_phys_offset():
    lists = {0x10000: [0x80000 | D, 0x20000 | S, END]}
    end = run(machine(0x10000 | I, lists, phys_offset=0x8000))
    assert end.memory.read(0x80000 - 0x8000) == 0x20000 - 0x8000
    assert end.memory.read(0x80000) == 0x80000


@pytest.mark.parametrize(
    "flags, kind",
    [
        (S, Kind.SOURCE),
        (I, Kind.INDIRECTION),
        (D, Kind.DESTINATION),
        (0, Kind.SKIP),
        (S | I | D, Kind.SOURCE),
        (I | D, Kind.INDIRECTION),
        (END, Kind.SKIP),
        (END | S, Kind.SOURCE),
    ],
)
def test_flags_are_tested_in_the_order_source_indirection_destination(flags, kind):
    assert kind_of(0x123000 | flags) is kind


@pytest.mark.parametrize("flags", range(16))
def test_each_word_is_of_one_kind(flags):
    assert [is_kind(0x5000 | flags, kind) for kind in Kind].count(True) == 1


@pytest.mark.parametrize("flags", range(16))
def test_done_is_bit_2(flags):
    assert done(0x5000 | flags) == bool(flags & 4)


def test_address_is_without_the_low_bits():
    assert machine(0x12345 | S, {}).addr == 0x12000


def test_next_word_is_read_after_the_copy():
    # The copy overwrites the list page that holds the next word: the machine reads what is there then.
    lists = {0x10000: [0x10000 | D, 0x20000 | S, END], 0x20000: [0, 0, 0x30000 | D | END]}
    state = machine(0x10000 | I, lists)
    for _ in range(3):
        state = state.iteration(kind_of(state.entry))
    assert state.entry == 0x30000 | D | END
