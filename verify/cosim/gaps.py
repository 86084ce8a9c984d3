"""Where our engine is known to accept more than the architecture, or than can be checked here.

SLEIGH gives these encodings a meaning. No target uses one, and `verify cosim` fails if
one does; a random word that is one of them is counted by its reason and not compared.
"""

from __future__ import annotations

from verify.cosim.system_table import POINTER_AUTHENTICATION, READ_ONLY, SYSTEM_REGISTERS, fields

_ALL_ONES = 31
_FLAGS = "flag manipulation (cfinv, rmif, setf): Unicorn's CPU lacks it"
_TAGGING = "memory tagging: Unicorn's CPU lacks it"


def known_gap(word: int) -> str | None:
    """Why our engine's meaning of ``word`` does not count, in words; None if it does."""
    return _system(word) or _data(word) or _memory(word) or _branch(word)


def _system(word: int) -> str | None:
    found = fields(word)
    if found is None or found.read:
        return None
    if (found.op0, found.op1, found.crn, found.rt) == (0, 3, 2, 31):
        if found.crm << 3 | found.op2 in POINTER_AUTHENTICATION:
            return "a hint of pointer authentication is taken for a nop"
    if (found.op0, found.op1, found.crn, found.rt) == (0, 0, 4, 31) and found.op2 < 3:
        return _FLAGS  # it is accepted with a CRm other than 0, too
    if SYSTEM_REGISTERS.get(found.register) in READ_ONLY:
        return "a write of a read-only register is accepted"
    return None


def _data(word: int) -> str | None:
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
    if word & 0x3F20_0C00 == 0x1900_0000:
        return "ordered access with an unscaled offset: Unicorn's CPU lacks it"
    if word & 0xFF20_0400 == 0xF820_0400:
        return "load with pointer authentication: Unicorn's CPU lacks it"
    if word & 0x3F00_0000 == 0x0800_0000:
        status, second, pair = word >> 16 & 31, word >> 10 & 31, word >> 21 & 1
        if status != _ALL_ONES or (second != _ALL_ONES and not pair):
            return "an exclusive or ordered access is accepted with fields that should be one"
    return None


def _branch(word: int) -> str | None:
    if word & 0xFF00_0010 == 0x5400_0010:
        return "consistent conditional branch: Unicorn's CPU lacks it"
    return None
