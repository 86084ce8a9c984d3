"""The relative relocations that arm64 kernels apply to themselves when they boot.

Facts: arch/arm64/Makefile links relocatable kernels with --no-apply-dynamic-relocs, so the words to
relocate are zero in the file and their values stand in .rela.dyn;
arch/arm64/kernel/pi/relocate.c applies those of type R_AARCH64_RELATIVE.
"""

from array import array
from dataclasses import dataclass

from verify.target.words import U64, words

R_AARCH64_RELATIVE = 0x403
ENTRY_SIZE = 24
_INFO = R_AARCH64_RELATIVE.to_bytes(8, "little")
_MIN_RUN = 16
_MAX_RUNS = 1024


@dataclass(frozen=True)
class Relocations:
    """Relative relocations: the word at ``places[i]`` holds ``values[i]`` (virtual addresses)."""

    places: array[int]
    values: array[int]

    def __len__(self) -> int:
        return len(self.places)


NO_RELOCATIONS = Relocations(array(U64), array(U64))


def parse_rela(data: bytes) -> Relocations:
    """Return the relative ones of the Elf64_Rela entries in *data*."""
    table = words(U64, data[: len(data) - len(data) % ENTRY_SIZE])
    places, kinds, values = table[0::3], table[1::3], table[2::3]
    if kinds.count(R_AARCH64_RELATIVE) == len(kinds):
        return Relocations(places, values)
    rows = [row for row, kind in enumerate(kinds) if kind == R_AARCH64_RELATIVE]
    return Relocations(array(U64, (places[r] for r in rows)), array(U64, (values[r] for r in rows)))


def find_rela(data: bytes) -> Relocations:
    """Return the longest run of relative Elf64_Rela entries in *data*, which has no section table."""
    best = (0, 0)
    at = 0
    for _ in range(_MAX_RUNS):
        at = data.find(_INFO, at)
        if at < 0:
            break
        # The longest run first: entries are counted in strides, never byte by byte.
        count = 1
        while data[at + ENTRY_SIZE * count : at + ENTRY_SIZE * count + 8] == _INFO:
            count += 1
        if at >= 8 and count > best[1] and at - 8 + ENTRY_SIZE * count <= len(data):
            best = (at - 8, count)
        at += ENTRY_SIZE * (count - 1) + 8
    start, count = best
    if count < _MIN_RUN:
        return NO_RELOCATIONS
    return parse_rela(data[start : start + ENTRY_SIZE * count])


def apply(data: bytes, address: int, relocations: Relocations) -> bytes:
    """Return *data*, which stands at *address*, with the relocations of its words applied."""
    if not len(relocations):
        return data
    out = bytearray(data)
    last = len(data) - 8
    for place, value in zip(relocations.places, relocations.values, strict=True):
        offset = place - address
        if 0 <= offset <= last:
            out[offset : offset + 8] = value.to_bytes(8, "little")
    return bytes(out)
