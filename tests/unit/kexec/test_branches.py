"""The callers of a function, among all direct branches."""

from __future__ import annotations

import struct

import pytest
from kexec_verify.kexec.branches import Branches, goes_to
from kexec_verify.target import Kernel, Segment

BASE, NEXT = 0xFFFF_8000_0800_0002, 0xFFFF_8000_0900_0000  # the first segment is not aligned
FIRST = BASE + 2
BL, B, B_NE, ADR, NOP = 0x9400_0000, 0x1400_0000, 0x5400_0001, 0x1000_0000, 0xD503_201F


def branch(kind: int, at: int, to: int) -> int:
    return kind | (to - at >> 2) & 0x3FF_FFFF


def kernel(*words: int) -> Kernel:
    data = b"\0\0" + struct.pack(f"<{len(words)}I", *words)
    back = struct.pack("<2I", branch(B, NEXT, FIRST), branch(BL, NEXT + 4, NEXT))
    return Kernel("k", "k", "elf", "", None, None, 4096, (Segment(BASE, data), Segment(NEXT, back)))


def test_calls_and_tail_calls_are_found_forwards_and_backwards():
    found = Branches(kernel(NOP, branch(BL, FIRST + 4, NEXT), branch(B, FIRST + 8, FIRST), B_NE, ADR, 0))
    assert found.to(FIRST) == [FIRST + 8, NEXT]
    assert found.to(NEXT) == [FIRST + 4, NEXT + 4]
    assert found.to(FIRST + 4) == []


@pytest.mark.parametrize(
    ("word", "to"),
    [
        (BL | 1, 4),
        (B | 0x3FF_FFFF, -4),
        (B | 0x200_0000, -0x800_0000),
        (B_NE, None),
        (ADR, None),
        (NOP, None),
    ],
)
def test_where_an_instruction_goes(word: int, to: int | None):
    assert goes_to(word, NEXT) == (None if to is None else NEXT + to)
