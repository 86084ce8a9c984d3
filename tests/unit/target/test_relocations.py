"""RELR tables: which words they name, and what is no such table."""

from __future__ import annotations

import struct
import time

import pytest
from kexec_verify.target import relocations
from kexec_verify.target.relocations import packed_places

START = 0xFFFF_8000_8000_0000
ROOM = 1 << 20


def table(*entries: int) -> bytes:
    return struct.pack(f"<{len(entries)}Q", *entries)


@pytest.mark.parametrize(
    ("entries", "places"),
    [
        ([START], [0]),
        ([START, 0b1011], [0, 8, 24]),
        ([START, 1 << 63 | 1], [0, 8 * 63]),
        ([START, 1, 0b11], [0, 8 * 64]),
        ([START, 0b101, START + 0x1000, 0b11], [0, 16, 0x1000, 0x1008]),
        ([START, 0b11, START + 0x14, START + 0x1E], [0, 8, 0x14, 0x1E]),  # packed structures
        ([START, 1, 1], [0]),
    ],
)
def test_places_are_those_of_the_entries(entries, places):
    assert list(packed_places(table(*entries), ROOM)) == [START + place for place in places]


def test_a_table_says_the_same_that_made_it(make):
    places = [START + place for place, _ in make.packed]
    assert list(packed_places(make.pack(places), ROOM)) == places


@pytest.mark.parametrize(
    "data",
    [
        b"",
        table(START)[:-1],
        table(0b11, START),
        table(0x1000),
        table(START, START),
        table(START + 8, START),
        table(START, 0b11, START + 8),
        table(START, START + 4),
        table(START, START + ROOM),
        table(START, *[1] * 300, 0b11, *[1] * 2000, 0b11),
    ],
    ids=[
        "empty",
        "cut",
        "map first",
        "no kernel's",
        "twice",
        "back",
        "in a map",
        "overlap",
        "far",
        "far map",
    ],
)
def test_what_is_no_table_of_a_kernel_is_refused(data):
    assert packed_places(data, ROOM) is None


def test_a_table_of_more_words_than_a_kernel_has_is_refused(monkeypatch):
    data = table(START, *[(1 << 64) - 1] * 100)
    assert len(packed_places(data, ROOM)) == 1 + 6300
    monkeypatch.setattr(relocations, "_MAX_PACKED", 6300)
    assert packed_places(data, ROOM) is None


@pytest.mark.parametrize("entry", [1, (1 << 64) - 1])
def test_a_large_table_is_given_up_in_time(entry):
    began = time.process_time()
    assert packed_places(table(START) + entry.to_bytes(8, "little") * (4 << 20), 1 << 29) is None
    assert time.process_time() - began < 2
