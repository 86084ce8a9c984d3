"""Decode CPYP, CPYM and CPYE, which copy memory (FEAT_MOPS; Arm ARM, C4.1.94 and C6.2.95)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

_MASK, _COPY = 0xFF20_FC00, 0x1D00_0400  # any of the three, in order of the addresses or safe for an overlap
_PART_SHIFT = 22
PROLOGUE, MAIN, EPILOGUE = range(3)
_ZERO = 31


@dataclass(frozen=True)
class Part:
    """One of the three instructions.

    :param number: PROLOGUE, MAIN or EPILOGUE.
    :param to: name of the register with the destination's address; ``source`` of that with the source's;
        ``count`` of that with the number of bytes.
    """

    number: int
    to: str
    source: str
    count: str

    @property
    def registers(self) -> tuple[str, str, str]:
        """Return the names of the three registers."""
        return self.to, self.source, self.count


def part(word: int) -> Part | None:
    """Return what *word* is of such a sequence; None if it is nothing of one, or UNPREDICTABLE."""
    number = word >> _PART_SHIFT & 3
    names = word & 31, word >> 16 & 31, word >> 5 & 31
    if word & _MASK != _COPY or number > EPILOGUE or _ZERO in names or len(set(names)) < len(names):
        return None
    to, source, count = (f"x{name}" for name in names)
    return Part(number, to, source, count)


def is_whole(words: Sequence[int]) -> bool:
    """Return whether *words* are the three instructions of one copy, in their order."""
    parts = [part(word) for word in words]
    first = parts[0] if parts else None
    return first is not None and parts == [replace(first, number=n) for n in (PROLOGUE, MAIN, EPILOGUE)]
