"""Refuse instructions of Armv8.0-A to which SLEIGH gives a wrong or too general meaning.

The decoder refuses them, so no proof depends on one. They were found by co-simulation with Unicorn over all
system encodings and over random words, and by reading. What is no instruction of Armv8.0-A is refused before
(``verify/arm64/legality.py``).
"""

from __future__ import annotations

# C6.2 and D8.8: hints of pointer authentication that change x16, x17 or x30 once it is enabled.
_POINTER_AUTHENTICATION = frozenset({7, 8, 10, 12, 14, *range(24, 32)})
_CURRENTEL = 0xD518_4240


def refused(word: int) -> str | None:
    """Return why ``word`` has no meaning here although SLEIGH has one, in words; None if it may have it."""
    return _system(word) or _data(word) or _memory(word)


def _system(word: int) -> str | None:
    if word & 0xFFFF_F01F == 0xD503_201F and word >> 5 & 0x7F in _POINTER_AUTHENTICATION:
        return "a hint of pointer authentication is taken for a nop"
    if _writes_identification(word) or word & 0xFFFF_FFE0 == _CURRENTEL:
        return "a write of a read-only register is accepted"
    return None


def _writes_identification(word: int) -> bool:
    """Return whether it is an MSR with CRn 0 (CTR_EL0, MIDR_EL1, ID_*) and op1 other than 2 and 4 (D24.2)."""
    return word & 0xFFF8_F000 == 0xD518_0000 and word >> 16 & 0b111 in (0, 1, 3)


def _data(word: int) -> str | None:
    if word & 0xFFE0_FC1F == 0x7A00_001F:
        return "sbcs to wzr takes N and Z from zero and not from the result"
    return None


def _memory(word: int) -> str | None:
    if word & 0x3F80_0000 == 0x0800_0000:
        return "an exclusive access is taken for a plain one"
    return None
