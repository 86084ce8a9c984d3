"""Encodings that SLEIGH gives a meaning that is wrong, too wide, or cannot be co-simulated here.

The decoder refuses them, so no proof rests on one. What is here was found by co-simulation
with Unicorn over all system encodings and over random words, and by reading.
"""

from __future__ import annotations

# C6.2 and D8.8: hints of pointer authentication that change x16, x17 or x30 once it is enabled.
_POINTER_AUTHENTICATION = frozenset({7, 8, 10, 12, 14, *range(24, 32)})
_MSR_READ_ONLY = (0xD51B_0020, 0xD518_4240)  # ctr_el0, currentel
_ALL_ONES = 31
_FLAGS = "flag manipulation (cfinv, rmif, setf): Unicorn's CPU lacks it"
_TAGGING = "memory tagging: Unicorn's CPU lacks it"


def refused(word: int) -> str | None:
    """Why ``word`` is given no meaning though SLEIGH has one, in words; None if it may have it."""
    return _system(word) or _data(word) or _memory(word) or _branch(word)


def _system(word: int) -> str | None:
    if word & 0xFFFF_F01F == 0xD503_201F and word >> 5 & 0x7F in _POINTER_AUTHENTICATION:
        return "a hint of pointer authentication is taken for a nop"
    if word & 0xFFFF_F0FF == 0xD503_303F:
        return "a dsb with the nXS qualifier needs FEAT_XS, of which no kernel tests the capability here"
    if word & 0xFFFF_F0FF == 0xD503_30FF:
        return "sb needs FEAT_SB, of which no kernel tests the capability here"
    if word & 0xFFFF_F01F == 0xD500_401F and word >> 5 & 0b111 < 3:
        return _FLAGS  # it is accepted with a CRm other than 0, too
    if word & 0xFFFF_FFE0 in _MSR_READ_ONLY:
        return "a write of a read-only register is accepted"
    return None


def _data(word: int) -> str | None:
    if word & 0xFFFF_0000 == 0xDAC1_0000:
        return "pointer authentication is taken for a nop"
    if word >> 23 & 0x3F == 0b100100:
        wide, repeat, size = word >> 31, word >> 22 & 1, word >> 10 & 0x3F
        length = (repeat << 6 | ~size & 0x3F).bit_length() - 1  # DecodeBitMasks
        if length < 1 or size & (1 << length) - 1 == (1 << length) - 1 or repeat > wide:
            return "a reserved bitmask immediate is accepted"
    if word & 0xBFC0_0000 == 0x9180_0000 or word & 0xDFE0_FC00 == 0x9AC0_0000:
        return _TAGGING
    if word & 0xFFE0_F800 == 0x9AC0_1000:
        return _TAGGING
    if word & 0xFFE0_FC1F == 0x7A00_001F:
        return "sbcs to wzr takes N and Z from zero and not from the result"
    if word & 0xFFE0_7C10 == 0xBA00_0400 or word & 0xFFFF_BC1F == 0x3A00_080D:
        return _FLAGS
    short = word & 0x7FC0_0000 == 0x11C0_0000 or word & 0x7FE0_F000 == 0x1AC0_6000
    if short or word & 0x7FFF_FC00 in (0x5AC0_1800, 0x5AC0_1C00, 0x5AC0_2000):
        return "common short sequence compression (min, max, cnt): Unicorn's CPU lacks it"
    return None


def _memory(word: int) -> str | None:
    if word & 0xFF20_0000 == 0xD920_0000 or word & 0xFE40_0000 == 0x6800_0000:
        return _TAGGING
    atomic = word & 0x0120_0C00 == 0x0020_0000
    if word & 0xBEC0_0000 == 0x38C0_0000 and not atomic:
        return "a signed load to a W register is extended to 64 bits, or with zeros"
    if word & 0x3F20_0C00 == 0x1900_0000:
        return "ordered access with an unscaled offset: Unicorn's CPU lacks it"
    if word & 0xFF20_0400 == 0xF820_0400:
        return "load with pointer authentication: Unicorn's CPU lacks it"
    if word & 0x3F00_0000 == 0x0800_0000:
        if not word >> 23 & 1:
            return "an exclusive access is taken for a plain one"
        if word >> 21 & 1:
            return "compare and swap needs FEAT_LSE, of which no kernel tests the capability here"
        if not word >> 15 & 1:
            return "an access of a limited ordering region needs FEAT_LOR"
        status, second = word >> 16 & 31, word >> 10 & 31
        if status != _ALL_ONES or second != _ALL_ONES:
            return "an ordered access is accepted with fields that should be one"
    return None


def _branch(word: int) -> str | None:
    if word & 0xFE00_0000 == 0xD600_0000 and word >> 10 & 0x3F:
        return "a branch with pointer authentication is taken for a plain one"
    if word & 0xFF00_0010 == 0x5400_0010:
        return "consistent conditional branch: Unicorn's CPU lacks it"
    return None
