"""Translation tables walked in plain integers: hand-made tables of several granules."""

from __future__ import annotations

import struct

import pytest
from kexec_verify.live.tables import NORMAL_WRITE_BACK, Leaf, Tables

PAGE = 0b11 | 1 << 10
READ_ONLY, PXN = 1 << 7, 1 << 53


class Memory:
    def __init__(self) -> None:
        self.words: dict[int, int] = {}

    def read(self, address: int, size: int) -> bytes:
        return struct.pack(f"<{size // 8}Q", *(self.words.get(address + i, 0) for i in range(0, size, 8)))


def tcr(bits: int, tg0: int = 0, tg1: int = 2) -> int:
    return (64 - bits) | (64 - bits) << 16 | tg0 << 14 | tg1 << 30


def linear(memory: Memory, leaf: int = PAGE, table: int = 0b11) -> Tables:
    """39 bits and 4 KiB pages: three levels, which map the page at 0xffffff8000003000."""
    memory.words |= {0x1000: 0x2000 | table, 0x2000: 0x3000 | 0b11, 0x3000 + 8 * 3: 0x8000 | leaf}
    return Tables(memory.read, 0x1000, tcr(39), high=True)


def test_a_page_is_found_through_three_levels():
    tables = linear(Memory())
    leaf = tables.walk(0xFFFF_FF80_0000_3128)
    assert leaf is not None
    assert (leaf.pa, leaf.size, leaf.writable, leaf.accessed) == (0x8128, 4096, True, True)
    assert tables.pages == {0x1000, 0x2000, 0x3000}


@pytest.mark.parametrize("address", [0xFFFF_FF80_0000_4000, 0xFFFF_FF00_0000_3000, 0x3000])
def test_what_no_table_maps_is_nothing(address):
    assert linear(Memory()).walk(address) is None


def test_a_block_ends_the_walk_early():
    memory = Memory()
    memory.words |= {0x1000: 0x2000 | 0b11, 0x2000 + 8: 0x4020_0000 | 0b01 | 1 << 10}
    leaf = Tables(memory.read, 0x1000, tcr(39), high=True).walk(0xFFFF_FF80_0030_0000)
    assert leaf == Leaf(0x4030_0000, 0x4020_0401, 1 << 21)


def test_a_reserved_descriptor_of_the_last_level_maps_nothing():
    assert linear(Memory(), leaf=0b01 | 1 << 10).walk(0xFFFF_FF80_0000_3000) is None


@pytest.mark.parametrize(("leaf", "table"), [(PAGE | READ_ONLY, 0b11), (PAGE, 0b11 | 1 << 62)])
def test_read_only_by_the_page_or_by_a_table_above(leaf, table):
    found = linear(Memory(), leaf, table).walk(0xFFFF_FF80_0000_3000)
    assert found is not None and not found.writable


@pytest.mark.parametrize(("leaf", "table"), [(PAGE | PXN, 0b11), (PAGE, 0b11 | 1 << 59)])
def test_not_executable_by_the_page_or_by_a_table_above(leaf, table):
    found = linear(Memory(), leaf, table).walk(0xFFFF_FF80_0000_3000)
    assert found is not None and not found.executable


def test_the_type_of_memory_is_that_of_the_chosen_attribute():
    found = linear(Memory(), PAGE | 2 << 2).walk(0xFFFF_FF80_0000_3000)
    assert found is not None
    assert found.memory_type(0xFF << 16) == NORMAL_WRITE_BACK
    assert found.memory_type(0x04 << 16) == 0x04


def test_leaves_are_those_of_the_range_in_order():
    memory = Memory()
    tables = linear(memory)
    memory.words[0x3000 + 8 * 5] = 0x9000 | PAGE
    first = 0xFFFF_FF80_0000_0000
    assert [at - first for at, _ in tables.leaves(first, first + 0x10000)] == [0x3000, 0x5000]
    assert [at - first for at, _ in tables.leaves(first + 0x4000, first + 0x10000)] == [0x5000]


def test_sixteen_kib_pages():
    memory = Memory()
    memory.words |= {0x4000: 0x8000 | 0b11, 0x8000 + 8: 0xC000 | PAGE}
    found = Tables(memory.read, 0x4000, tcr(36, tg1=1), high=True).walk(0xFFFF_FFF0_0000_4010)
    assert found is not None and (found.pa, found.size) == (0xC010, 1 << 14)


def test_lpa2_has_two_more_bits_of_address_in_the_descriptor():
    memory = Memory()
    memory.words |= {0x1000: 0x2000 | 0b11, 0x2000: 0x3000 | 0b11, 0x3000: 0x8000 | PAGE | 1 << 8}
    found = Tables(memory.read, 0x1000, tcr(39) | 1 << 59, high=True).walk(0xFFFF_FF80_0000_0000)
    assert found is not None and found.pa == 0x8000 | 1 << 50


def test_t0sz_of_the_kimage_replaces_that_of_tcr():
    memory = Memory()
    memory.words |= {0x1000: 0x2000 | 0b11, 0x2000: 0x3000 | 0b11, 0x3000: 0x8000 | PAGE}
    tables = Tables(memory.read, 0x1000, tcr(48), high=False, t0sz=25)
    found = tables.walk(0x10)
    assert found is not None and found.pa == 0x8010
