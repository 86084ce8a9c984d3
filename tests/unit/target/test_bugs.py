"""The table that tells BUG from WARN, in both sizes of its entries, with and without its symbols."""

from __future__ import annotations

import random
import struct
from array import array

import pytest
from kexec_verify.target import Kernel, Segment, SymbolTable
from kexec_verify.target.bugs import _entries, warnings
from kexec_verify.target.symbols import ListedNames

BASE = 0xFFFF_8000_0800_0000
TABLE = BASE + 0x1000
BRK = 0xD4210000  # brk #0x800
BUGS, WARNS = (0x100, 0x180), (0x140, 0x200)
FLAGS = {BASE + at: 0 for at in BUGS} | {BASE + at: 0x901 for at in WARNS}  # a WARN has its taint, too


def kernel(
    size: int, flags: dict[int, int] | None = None, symbols: bool = True, further: bytes = b""
) -> Kernel:
    """A kernel with one entry a brk, of 12 bytes (with file and line) or 8 (without)."""
    data = bytearray(0x2000)
    table = b""
    for brk, flag in (FLAGS if flags is None else flags).items():
        struct.pack_into("<I", data, brk - BASE, BRK)
        distance = struct.pack("<i", brk - TABLE - len(table))
        # file (relative) and line stand between the address and the flags of the long entry
        table += distance + (
            struct.pack("<iHH", -0x800, 77, flag) if size == 12 else struct.pack("<HH", flag, 0)
        )
    data[0x1000 : 0x1000 + len(table)] = table
    data[0x1800 : 0x1800 + len(further)] = further
    names = {"_text": BASE}
    if symbols:
        names |= {"__start___bug_table": TABLE, "__stop___bug_table": TABLE + len(table)}
    return Kernel(
        "small", "small", "elf", "0" * 64, None, None, None, (Segment(BASE, bytes(data)),),
        SymbolTable(ListedNames(list(names)), array("Q", names.values())),
    )  # fmt: skip


@pytest.mark.parametrize("symbols", [True, False], ids=["symbols", "no symbols"])
@pytest.mark.parametrize("size", [12, 8])
def test_each_brk_is_a_warn_or_a_bug(size, symbols):
    found = warnings(kernel(size, symbols=symbols), FLAGS)
    assert found == {BASE + at: False for at in BUGS} | {BASE + at: True for at in WARNS}


@pytest.mark.parametrize("flag", [0, 1])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [12, 8])
def test_short_tables_are_read_as_what_they_are_or_not_at_all(size, count, flag):
    flags = {BASE + 0x100 + 8 * i: flag for i in range(count)}
    found = warnings(kernel(size, flags), flags)
    assert found in ({}, {brk: bool(flag) for brk in flags})
    assert found or count == 3


def test_only_what_is_asked_for_is_told():
    assert warnings(kernel(12), [BASE + 0x140]) == {BASE + 0x140: True}
    assert warnings(kernel(12), []) == {}


def test_a_brk_without_an_entry_is_left_out():
    assert warnings(kernel(12), [BASE + 0x300]) == {}


def test_a_brk_that_two_entries_name_is_left_out():
    at = BASE + 0x1800
    double = b"".join(struct.pack("<iiHH", brk - at - 12 * i, -0x800, 77, 1) for i, brk in enumerate(FLAGS))
    assert warnings(kernel(12, symbols=False, further=double), FLAGS) == {}
    assert len(warnings(kernel(12, symbols=True, further=double), FLAGS)) == 4


def test_a_stray_word_without_symbols_is_no_entry():
    stray = struct.pack("<i", BASE + 0x100 - (BASE + 0x1800))
    found = warnings(kernel(12, symbols=False, further=stray), FLAGS)
    assert len(found) == 4 and found[BASE + 0x100] is False


def test_an_entry_alone_without_symbols_is_left_out():
    assert warnings(kernel(12, {BASE + 0x100: 1}, symbols=False), [BASE + 0x100]) == {}


def test_every_word_that_points_at_a_brk_is_found():
    """The search looks at few words, and finds what looking at all of them finds."""
    chosen, size = random.Random(7), 5 << 16
    wanted = {BASE + at for at in (0, 0x40, 0xFFFC, 0x1_0000, 0x2_8004, size - 4)} | {BASE - 0x12_3454}
    data = bytearray(chosen.randbytes(size))
    for at in (0, 4, 0xFFFC, 0x1_0000, 0x1_0004, 0x3_1230, size - 4):
        struct.pack_into("<i", data, at, chosen.choice(sorted(wanted)) - BASE - at)
    looked = Kernel(
        "large", "large", "elf", "0" * 64, None, None, None, (Segment(BASE, bytes(data)),),
        SymbolTable(ListedNames([]), array("Q")),
    )  # fmt: skip
    words = struct.unpack(f"<{size // 4}i", data)
    expected = [(BASE + 4 * i + w, BASE + 4 * i) for i, w in enumerate(words) if BASE + 4 * i + w in wanted]
    assert len(expected) >= 7
    assert _entries(looked, BASE, BASE + size, wanted) == expected
    assert _entries(looked, BASE + 2, BASE + 3, wanted) == []
