"""Decide which words are instructions of Armv8.0-A, which every CPU that runs Linux on arm64 has.

Written from the encoding tables of the Arm Architecture Reference Manual (DDI 0487, C4.1), as a list of what
exists rather than of what does not. So an encoding that a later extension fills is not here. Floating point
and SIMD are left out, because their registers are not modelled. So are DCPS1 to DCPS3 and DRPS, which are
UNDEFINED outside of Debug state.
"""

from __future__ import annotations

from kexec_verify.arm64.base_system import system

_ALL_ONES = 31
_MOVE_OPCODES = (0b00, 0b10, 0b11)
_RETURN_AND_BRANCH = (0b0000, 0b0001, 0b0010, 0b0100)  # br, blr, ret, eret
_LOAD_STORE_PAIR = (0b00, 0b01, 0b10)
_ONE_SOURCE_32, _ONE_SOURCE_64 = (0, 1, 2, 4, 5), (0, 1, 2, 3, 4, 5)  # rbit, rev*, clz, cls
_TWO_SOURCES = (2, 3, 8, 9, 10, 11)  # udiv, sdiv, lslv, lsrv, asrv, rorv
# op31 and o0: madd, msub, smaddl, smsubl, smulh, umaddl, umsubl, umulh
_THREE_SOURCES = (0b0000, 0b0001, 0b0010, 0b0011, 0b0100, 0b1010, 0b1011, 0b1100)


def in_base(word: int) -> bool:
    """Return whether ``word`` is an instruction of Armv8.0-A other than floating point and SIMD."""
    match word >> 25 & 0b1111:
        case 0b1000 | 0b1001:
            return _immediate(word)
        case 0b1010 | 0b1011:
            return _branch(word) if word >> 29 & 0b11 != 0b10 or word >> 31 else _conditional(word)
        case 0b0100 | 0b1100:
            return _memory(word)
        case 0b0101 | 0b1101:
            return _register(word)
    return False  # UDF, reserved, SVE and SME; floating point and SIMD


def is_vector(word: int) -> bool:
    """Return whether ``word`` is floating point or SIMD (C4.1: x111, and loads and stores x110)."""
    return word >> 26 & 0b11 == 0b11


def _immediate(word: int) -> bool:
    """Decode C4.1.92, data processing (immediate)."""
    wide, opcode, n = word >> 31, word >> 29 & 0b11, word >> 22 & 1
    match word >> 23 & 0b111:
        case 0b000 | 0b001 | 0b010:
            return True  # adr, adrp; add, sub (immediate)
        case 0b100:
            return _is_bitmask(wide, n, word >> 10 & 0x3F)
        case 0b101:
            return opcode in _MOVE_OPCODES and (wide == 1 or not n)
        case 0b110:
            narrow = not word & 0x0020_8000
            return opcode != 0b11 and n == wide and (wide == 1 or narrow)
        case 0b111:
            return opcode == 0 and n == wide and not word >> 21 & 1 and (wide == 1 or not word >> 15 & 1)
    return False


def _is_bitmask(wide: int, n: int, imms: int) -> bool:
    """Return whether DecodeBitMasks (J1.3.3) has a value."""
    length = (n << 6 | ~imms & 0x3F).bit_length() - 1
    ones = (1 << length) - 1 if length >= 1 else 0
    return length >= 1 and n <= wide and imms & ones != ones


def _conditional(word: int) -> bool:
    """Decode C4.1.93, conditional branch (immediate): b.cond."""
    return word & 0xFF00_0010 == 0x5400_0000


def _branch(word: int) -> bool:
    """Decode C4.1.93, branches, exception generating and system instructions."""
    top = word >> 29
    if top & 0b011 != 0b010:
        return top & 0b011 in (0b00, 0b01)  # b, bl; cbz, cbnz, tbz, tbnz
    if word >> 25 & 0b1111 == 0b1011:
        return word & 0x011F_FC1F == 0x001F_0000 and word >> 21 & 0b1111 in _RETURN_AND_BRANCH
    if word >> 24 == 0b1101_0100:
        return _exception(word)
    return word >> 22 == 0b11_0101_0100 and system(word)


def _exception(word: int) -> bool:
    """Decode C4.1.93, exception generation."""
    op2, level = word >> 2 & 0b111, word & 0b11
    if op2:
        return False
    match word >> 21 & 0b111:
        case 0b000:
            return level != 0  # svc, hvc, smc
        case 0b001 | 0b010:
            return level == 0  # brk, hlt
    return False


def _memory(word: int) -> bool:
    """Decode C4.1.94, loads and stores."""
    if word >> 26 & 1:
        return False
    kind, offset = word >> 28 & 0b11, word >> 24 & 0b11
    size, opcode = word >> 30, word >> 22 & 0b11
    match kind:
        case 0b00:
            return offset == 0 and _exclusive(word)
        case 0b01:
            return offset == 0  # ldr, ldrsw, prfm (literal)
        case 0b10:
            if not offset and not word >> 23 & 1:
                return size in (0b00, 0b10)  # stnp, ldnp
            return size in (0b00, 0b10) or (size == 0b01 and word >> 22 & 1 == 1)  # ldpsw
    if offset == 0b01:
        return _is_access(size, opcode)
    if offset != 0:
        return False
    place = word >> 10 & 0b11
    if word >> 21 & 1:
        return place == 0b10 and bool(word >> 14 & 1) and _is_access(size, opcode)
    if (size, opcode) == (0b11, 0b10):
        return place == 0b00  # prfum
    return _is_access(size, opcode)


def _is_access(size: int, opcode: int) -> bool:
    """Return whether size and opc name a load, a store or a prefetch."""
    return opcode != 0b11 or size in (0b00, 0b01)


def _exclusive(word: int) -> bool:
    """Decode C4.1.94, load/store exclusive and ordered: ldxr, stxr, ldxp, stxp, ldar, stlr and the like."""
    ordered, load, pair = word >> 23 & 1, word >> 22 & 1, word >> 21 & 1
    status, acquire, second = word >> 16 & 31, word >> 15 & 1, word >> 10 & 31
    if ordered:
        return not pair and acquire == 1 and (status, second) == (_ALL_ONES, _ALL_ONES)
    if pair and not word >> 31:
        return False
    return (not load or status == _ALL_ONES) and (pair == 1 or second == _ALL_ONES)


def _register(word: int) -> bool:
    """Decode C4.1.95, data processing (register)."""
    wide, sets_flags = word >> 31, word >> 29 & 1
    op, third = word >> 30 & 1, word >> 10 & 0x3F
    if not word >> 28 & 1:
        if not word >> 24 & 1 or not word >> 21 & 1:
            reserved = bool(word >> 24 & 1) and word >> 22 & 0b11 == 0b11  # add, sub with a rotation
            return not reserved and (wide == 1 or third < 32)
        return word >> 22 & 0b11 == 0 and word >> 10 & 0b111 <= 4
    if word >> 24 & 1:
        return word >> 29 & 0b11 == 0 and _three_sources(word)
    match word >> 21 & 0b111:
        case 0b000:
            return third == 0  # adc, sbc
        case 0b010:
            return sets_flags == 1 and not word & 0x410  # ccmn, ccmp
        case 0b100:
            return sets_flags == 0 and not word >> 11 & 1  # csel, csinc, csinv, csneg
        case 0b110:
            if sets_flags:
                return False
            if op:
                known = _ONE_SOURCE_64 if wide else _ONE_SOURCE_32
                return word >> 16 & 31 == 0 and third in known
            return third in _TWO_SOURCES
    return False


def _three_sources(word: int) -> bool:
    """Decode C4.1.95, data processing (3 source)."""
    which = (word >> 21 & 0b111) << 1 | word >> 15 & 1
    return which in _THREE_SOURCES if word >> 31 else which in _THREE_SOURCES[:2]


def is_unpredictable(word: int) -> bool:
    """Return whether ``word`` is a load or store that is CONSTRAINED UNPREDICTABLE in Armv8.0-A.

    K1.2: a register that is loaded twice, or one that is both transferred and the base of a writeback.
    Exclusive accesses have cases of their own and are not covered.
    """
    if word >> 25 & 0b101 != 0b100 or is_vector(word):
        return False
    first, base, second = word & 31, word >> 5 & 31, word >> 10 & 31
    match word >> 27 & 0b111:
        case 0b101:
            twice = bool(word >> 22 & 1) and first == second
            return twice or (bool(word >> 23 & 1) and base != _ALL_ONES and base in (first, second))
        case 0b111 if not word >> 24 & 1 and not word >> 21 & 1 and word >> 10 & 1:
            return base != _ALL_ONES and base == first
    return False
