"""Make random states, biased to the values at which instructions go wrong."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from kexec_verify.arm64.state import FLAGS, GENERAL, SYSTEM
from kexec_verify.cosim.machine import WINDOW_SIZE, WINDOWS

_MASK = (1 << 64) - 1
_CORNERS = (
    0,
    1,
    _MASK,
    1 << 63,
    (1 << 63) - 1,
    (1 << 32) - 1,
    1 << 32,
    1 << 31,
    (1 << 31) - 1,
    0x1000,
    0xFFF,
    0x1_0000,
)
_ZERO_OR_SP = 31
_LONGEST = 16  # bytes of the longest access to the general registers: a pair of words


@dataclass(frozen=True)
class Addressing:
    """How a load or store forms its address.

    :param base: register number, 31 is sp.
    :param index: register number, 31 is zero; None without one.
    :param option: extension of the index: 2 uxtw, 3 lsl, 6 sxtw, 7 sxtx.
    :param shift: of the extended index, to the left.
    :param alignment: bytes; the engine needs that of a word, but none for parts of words,
        exclusive pairs that of both.
    """

    base: int
    displacement: int = 0
    index: int | None = None
    option: int = 3
    shift: int = 0
    alignment: int = 8


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (value >> (bits - 1) << bits)


def addressing(word: int) -> Addressing | None:
    """Return how ``word`` forms its address if it is a load or store, else None.

    Read from the bits and not from a disassembler (Arm ARM, C4.1.94, loads and stores).
    """
    if word >> 25 & 0b101 != 0b100:
        return None
    base, kind = word >> 5 & 31, word >> 27 & 0b111
    vector = word >> 26 & 1
    if kind == 0b101:
        scale = (2 + (word >> 30)) if vector else 2 + (word >> 31)
        post = word >> 23 & 0b11 == 0b01
        part = 8 if scale > 2 else 1
        return Addressing(base, 0 if post else _signed(word >> 15, 7) << scale, alignment=part)
    size = word >> 30
    part = 8 if size == 3 else 1
    if kind == 0b111 and word >> 24 & 1:
        return Addressing(base, (word >> 10 & 0xFFF) << size, alignment=part)
    if kind == 0b111 and not word >> 21 & 1:
        post = word >> 10 & 0b11 == 0b01
        return Addressing(base, 0 if post else _signed(word >> 12, 9), alignment=part)
    if kind == 0b111 and word >> 10 & 0b11 == 0b10:
        shift = size if word >> 12 & 1 else 0
        return Addressing(base, 0, word >> 16 & 31, word >> 13 & 0b111, shift, part)
    if kind == 0b011 and not word >> 24 & 1:
        return None  # a literal: its address is the program counter's
    return Addressing(base, alignment=16 if kind == 0b001 and word >> 21 & 1 else 8)


def unpredictable(word: int) -> bool:
    """Return whether the encoding is CONSTRAINED UNPREDICTABLE, so that there is nothing to compare.

    A pair loaded into one register, or writeback to a register that is transferred (Arm ARM, K1.2).
    """
    kind, vector = word >> 27 & 0b111, word >> 26 & 1
    if word >> 25 & 0b101 != 0b100 or vector:
        return False
    first, base, second = word & 31, word >> 5 & 31, word >> 10 & 31
    if kind == 0b101:
        writeback = word >> 23 & 1
        if word >> 22 & 1 and first == second:
            return True
        return bool(writeback) and base != _ZERO_OR_SP and base in (first, second)
    if kind == 0b111 and not word >> 24 & 1 and not word >> 21 & 1 and word >> 10 & 1:
        return base != _ZERO_OR_SP and base == first
    return False


def random_memory(rng: random.Random) -> tuple[bytes, ...]:
    """Return contents of the data windows."""
    words = WINDOW_SIZE // 8
    return tuple(struct.pack(f"<{words}Q", *(random_word(rng, ()) for _ in range(words))) for _ in WINDOWS)


def random_word(rng: random.Random, others: Sequence[int]) -> int:
    """Return a 64-bit value: a corner, near a page boundary, near another register's, small, or any."""
    match rng.randrange(8):
        case 0 | 1:
            return rng.choice(_CORNERS)
        case 2:
            return (rng.getrandbits(64) & ~0xFFF) + rng.choice((0, 8, 0xFF8, 0xFFF, -8)) & _MASK
        case 3 if others:
            return rng.choice(others) + rng.choice((0, 0, 1, -1)) & _MASK
        case 4:
            return rng.randrange(128)
        case 5:
            return 1 << rng.randrange(64)
    return rng.getrandbits(64)


def random_state(rng: random.Random, word: int) -> dict[str, int] | None:
    """Return register values for one run of ``word``; None if no access of it can be in a window.

    The base register is chosen so that an access is aligned and inside a window, an
    index register is a small multiple of the word's size.
    """
    values: list[int] = []
    for _ in range(32):
        values.append(random_word(rng, values[-4:]))
    where = addressing(word)
    if where is not None and not _point(rng, values, where):
        return None
    if word & 0xFF9F_FC1F == 0xD61F_0000:  # br, blr, ret: a target that is no instruction's faults
        values[word >> 5 & 31] &= ~3
    state = dict(zip((*GENERAL, "sp"), values, strict=True))
    state |= {flag: rng.getrandbits(1) for flag in FLAGS}
    return state | {name: rng.getrandbits(64) for name in SYSTEM}


def _point(rng: random.Random, values: list[int], where: Addressing) -> bool:
    added = where.displacement
    if where.index is not None:
        if where.index == where.base:
            return False
        narrow = where.option in (2, 6)
        negative = where.option != 2
        index = rng.randrange(-32 if negative else 0, 33) << (0 if where.shift == 3 else 3)
        added += index << where.shift
        if where.index == _ZERO_OR_SP:
            added = where.displacement
        elif narrow:
            values[where.index] = rng.getrandbits(32) << 32 | index & 0xFFFF_FFFF
        else:
            values[where.index] = index & _MASK
    start = rng.choice(WINDOWS)
    # Half of the accesses straddle the boundary of the window's two pages or are next to it.
    offset = WINDOW_SIZE // 2 + 8 * rng.randrange(-2, 2)
    if rng.getrandbits(1):
        offset = 8 * rng.randrange((WINDOW_SIZE - _LONGEST) // 8 + 1)
    if where.alignment < 8:
        offset = min(offset + rng.randrange(8), WINDOW_SIZE - _LONGEST)
    offset &= -where.alignment
    values[where.base] = start + offset - added & _MASK
    return True
