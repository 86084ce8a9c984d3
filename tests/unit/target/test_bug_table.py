"""BUG and WARN are told apart by the table, whatever the size of its entries and wherever the brk stands."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import pytest
from kexec_verify.target.bugs import warnings

TEXT, TABLE = 0xFFFF_8000_0800_0000, 0xFFFF_8000_0800_1000
BRK = (0xD421_0000).to_bytes(4, "little")
KINDS = (False, False, True, False, True)  # of the brk instructions, in the order of the table


class Image:
    """Five brk instructions and their table, with or without the table's symbols."""

    def __init__(self, size: int, kinds: tuple[bool, ...], symbols: bool):
        self.data = bytearray(0x2000)
        self.segments = [SimpleNamespace(address=TEXT, end=TEXT + len(self.data))]
        self.brks = [TEXT + 0x40 + 16 * i for i in range(len(kinds))]
        for i, (brk, warns) in enumerate(zip(self.brks, kinds, strict=True)):
            self.data[brk - TEXT : brk - TEXT + 4] = BRK
            entry = TABLE + size * i
            flags = 1 if warns else 0
            middle = struct.pack("<iH", 0x100, 42) if size == 12 else b""
            packed = struct.pack("<i", brk - entry) + middle + struct.pack("<H", flags)
            self.data[entry - TEXT : entry - TEXT + len(packed)] = packed
        self.ends = {"__start___bug_table": TABLE, "__stop___bug_table": TABLE + size * len(kinds)}
        self.symbols = self.ends if symbols else {}

    def symbol(self, name):
        return SimpleNamespace(address=self.symbols[name]) if name in self.symbols else None

    def read(self, address, size):
        return bytes(self.data[address - TEXT : address - TEXT + size])

    def mapped(self, address, size=1):
        return address >= TEXT and address + size <= TEXT + len(self.data)


@pytest.mark.parametrize("size", [8, 12])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_entry_of_a_table_with_symbols_is_read_right(size, count):
    image = Image(size, KINDS[:count], symbols=True)
    found = warnings(image, image.brks)
    assert found == dict(zip(image.brks, KINDS, strict=False))


@pytest.mark.parametrize("size", [8, 12])
def test_neighbours_tell_the_size_without_symbols(size):
    image = Image(size, KINDS, symbols=False)
    assert warnings(image, image.brks) == dict(zip(image.brks, KINDS, strict=True))


def test_nothing_is_known_of_a_brk_without_an_entry():
    image = Image(8, KINDS, symbols=True)
    assert warnings(image, [TEXT + 0x800]) == {}
