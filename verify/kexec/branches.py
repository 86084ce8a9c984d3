"""Every direct branch and call in a kernel, to find the callers of a function."""

from __future__ import annotations

import re
from array import array
from functools import cached_property

from kexec_verify.arm64.lift import SIZE
from kexec_verify.target import Kernel

_LAST_BYTE = re.compile(rb"[\x14-\x17\x94-\x97]")  # of B and BL (Arm ARM, C4.1.66)
_U64 = "Q"


def goes_to(word: int, at: int) -> int | None:
    """Return where the instruction *word* at *at* goes, if it is B or BL (Arm ARM, C6.2); else None."""
    if word >> 26 & 0b11111 != 0b00101:
        return None
    return at + ((word & 0x3FF_FFFF) - ((word & 0x200_0000) << 1)) * SIZE


class Branches:
    """The B and BL instructions of a kernel, and words of data that look like them."""

    def __init__(self, kernel: Kernel):
        self._kernel = kernel

    @cached_property
    def _all(self) -> tuple[array[int], array[int]]:
        """Return where each of them is, and where it goes."""
        places, targets = array(_U64), array(_U64)
        for segment in self._kernel.segments:
            data, first = segment.data, -segment.address % SIZE
            for match in _LAST_BYTE.finditer(data[first + SIZE - 1 :: SIZE]):
                offset = first + match.start() * SIZE
                at = segment.address + offset
                target = goes_to(int.from_bytes(data[offset : offset + SIZE], "little"), at)
                if target is not None and 0 <= target < 1 << 64:
                    places.append(at)
                    targets.append(target)
        return places, targets

    def to(self, callee: int) -> list[int]:
        """Return the addresses of those that go to *callee*, in order."""
        places, targets = self._all
        found: list[int] = []
        start = 0
        while True:
            try:
                start = targets.index(callee, start) + 1
            except ValueError:
                return found
            found.append(places[start - 1])
