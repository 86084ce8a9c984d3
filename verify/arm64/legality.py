"""At which exception level an encoding is defined, and whether it accesses memory with EL0's permissions."""

from __future__ import annotations

# Arm ARM, D18.1: op1 of an MSR, MRS or SYS names the lowest level that may use it: 0 to 2 EL1, 3 EL0,
# 4 EL2, 5 EL2 with VHE (the _EL12 names), 6 EL3, 7 secure EL1. Secure state is none of a kernel's.
_LOWEST_BY_OP1 = (1, 1, 1, 0, 2, 2, 3, 3)
_ERET = 0xD69F_03E0


def lowest_el(word: int) -> int:
    """The lowest exception level, 0 to 3, at which the encoding ``word`` is defined; 0 for most.

    Source: Arm ARM, C5.1.2 and D18.1, the op1 field of system instructions.
    """
    if word >> 22 == 0b1101010100 and word >> 19 & 3:
        return _LOWEST_BY_OP1[word >> 16 & 7]
    return 1 if word == _ERET else 0


def unprivileged(word: int) -> bool:
    """The encoding is a load or store that EL0's permissions decide on: LDTR, STTR and their like.

    Source: Arm ARM, C4.1.94, load/store register (unprivileged).
    """
    return word & 0x3B20_0C00 == 0x3800_0800
