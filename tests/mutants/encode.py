"""A few A64 encodings, for patches (Arm Architecture Reference Manual, C6.2)."""

from __future__ import annotations

NOP = 0xD503201F
XZR = 31


def mov(register: int, source: int) -> int:
    """mov Xd, Xm (orr Xd, xzr, Xm)."""
    return 0xAA0003E0 | source << 16 | register


def movz(register: int, immediate: int) -> int:
    """mov Xd, #immediate, of which 16 aligned bits may be set."""
    shift = 0
    while immediate >> 16:
        assert not immediate & 0xFFFF
        immediate >>= 16
        shift += 1
    return 0xD2800000 | shift << 21 | immediate << 5 | register


def branch(at: int, target: int) -> int:
    """b target."""
    return 0x14000000 | (target - at) >> 2 & 0x3FFFFFF


def load(register: int, base: int, offset: int) -> int:
    """ldr Xt, [Xn, #offset]."""
    assert offset % 8 == 0
    return 0xF9400000 | offset // 8 << 10 | base << 5 | register


def load_and_advance(register: int, base: int) -> int:
    """ldr Xt, [Xn], #8."""
    return 0xF8400400 | 8 << 12 | base << 5 | register


def store_and_advance(register: int, base: int) -> int:
    """str Xt, [Xn], #8."""
    return 0xF8000400 | 8 << 12 | base << 5 | register


def compare(first: int, second: int) -> int:
    """cmp Xn, Xm."""
    return 0xEB00001F | second << 16 | first << 5


def branch_if_not_below(distance: int) -> int:
    """b.hs, ``distance`` bytes on."""
    return 0x54000002 | distance // 4 << 5


def add_immediate(register: int, base: int, immediate: int) -> int:
    """add Xd, Xn, #immediate."""
    return 0x91000000 | immediate << 10 | base << 5 | register


def and_mask(register: int, base: int, mask: int) -> int:
    """and Xd, Xn, #mask, with the mask as its field."""
    return 0x92000000 | mask | base << 5 | register


def high_mask(low_zeros: int) -> int:
    """The N:immr:imms field for a 64-bit mask whose lowest bits are 0 and all others 1."""
    return 1 << 22 | (64 - low_zeros & 63) << 16 | (63 - low_zeros) << 10


def one_bit(bit: int) -> int:
    """The N:immr:imms field for a 64-bit mask of one bit."""
    return 1 << 22 | (64 - bit & 63) << 16


def field(word: int, low: int, width: int, value: int) -> int:
    """``word`` with one field set."""
    mask = (1 << width) - 1 << low
    return word & ~mask | value << low & mask


def get(word: int, low: int, width: int) -> int:
    """One field of ``word``."""
    return word >> low & (1 << width) - 1


def test_bit(word: int, bit: int) -> int:
    """A tbz or tbnz with another bit number below 32."""
    return field(word, 19, 5, bit)


RD, RN, RM = (0, 5), (5, 5), (16, 5)
IMMEDIATE_12, PAIR_OFFSET = (10, 12), (15, 7)
