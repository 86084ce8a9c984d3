"""When two functions are the same: byte for byte, or but for where they and what they use stand."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from verify.report.model import FunctionRecord
from verify.sweep.model import Function
from verify.target import Kernel, Segment
from verify.target.constants import walk

_PAGE = 4096
_IMAGE_BYTES = 1 << 28  # an image is smaller: constants farther away are no addresses in it

# Encodings by mask and value, and the field that says where something stands (Arm ARM, C4.1).
_RELATIVE = (
    (0x7C000000, 0x14000000, 0x03FFFFFF, 4),  # b, bl
    (0xFF000000, 0x54000000, 0x00FFFFE0, 4),  # b.cond
    (0x7E000000, 0x34000000, 0x00FFFFE0, 4),  # cbz, cbnz
    (0x7E000000, 0x36000000, 0x0007FFE0, 4),  # tbz, tbnz
    (0x3B000000, 0x18000000, 0x00FFFFE0, 4),  # ldr (literal)
)
_ADR = (0x1F000000, 0x10000000, 0x60FFFFE0)  # adr, adrp
_IN_PAGE = (
    (0x7F800000, 0x11000000, 0x003FFC00),  # add (immediate)
    (0x3B000000, 0x39000000, 0x003FFC00),  # loads and stores, unsigned offset
)


def identity(function: FunctionRecord) -> Function:
    """The function's digests."""
    words = b"".join(record.word.to_bytes(4, "little") for record in function.instructions)
    return Function(
        function.name,
        function.address,
        function.size,
        hashlib.sha256(words).hexdigest(),
        hashlib.sha256(b"".join(_unplaced(function.address, words))).hexdigest(),
    )


def _unplaced(address: int, code: bytes) -> Iterator[bytes]:
    """Each instruction, without the fields that say where something outside of the function stands.

    These are the immediates of adr and adrp, the distance of a branch or literal that is outside, and
    the offset that is added to the address of a page.
    """
    bases = _pages(address, code)
    end = len(code)
    for at in range(0, end, 4):
        word = int.from_bytes(code[at : at + 4], "little")
        mask, value, where = _ADR
        if word & mask == value:
            word &= ~where
        for mask, value, where, scale in _RELATIVE:
            if word & mask == value and not 0 <= at + _distance(word, where) * scale < end:
                word &= ~where
        for mask, value, where in _IN_PAGE:
            if word & mask == value and word >> 5 & 31 in bases.get(at, ()):
                word &= ~where
        yield word.to_bytes(4, "little")


def _distance(word: int, where: int) -> int:
    """The signed field of ``word`` that ``where`` masks."""
    low = (where & -where).bit_length() - 1
    bits = where.bit_count()
    found = (word & where) >> low
    return found - (1 << bits) if found >> (bits - 1) else found


def _pages(address: int, code: bytes) -> dict[int, set[int]]:
    """By offset, the registers that hold the address of a page of the image before that instruction."""
    kernel = Kernel("", "", "elf", "", None, None, None, (Segment(address, code),))
    return {
        insn.address - address: {
            int(name[1:])
            for name, value in known.items()
            if name[1:].isdigit() and value % _PAGE == 0 and abs(value - address) < _IMAGE_BYTES
        }
        for insn, known in walk(kernel, address, code)
    }
