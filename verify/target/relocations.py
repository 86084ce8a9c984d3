"""The relative relocations that arm64 kernels apply to themselves when they boot.

Facts: arch/arm64/Makefile links relocatable kernels with --no-apply-dynamic-relocs, so the words to
relocate are zero in the file and their values stand in .rela.dyn;
arch/arm64/kernel/pi/relocate.c applies those of type R_AARCH64_RELATIVE. The words that .relr.dyn
names hold their link-time values in the file: at the link address nothing is left to do for them.
Format of .relr.dyn: the ELF gABI, "Relative relocations": an even entry is the address of a word to
relocate, an odd one a map of the 63 words behind those that the entries before it reach.
"""

from array import array
from dataclasses import dataclass

from kexec_verify.errors import TargetError
from kexec_verify.target.word_arrays import U64, words

R_AARCH64_RELATIVE = 0x403
ENTRY_SIZE = 24
_TYPE = 0xFFFFFFFF  # ELF64_R_TYPE (include/uapi/linux/elf.h): the kernel looks at no other bit
_INFO = R_AARCH64_RELATIVE.to_bytes(8, "little")
_FEWEST = 16  # entries in a row that no other data resembles
_MAX_RUNS = 1024
_WORD = 8
_IN_MAP = 63  # words
_MAX_PACKED = 1 << 21  # words that RELR names; Debian's kernels of 2026 have a quarter
_KERNEL_HALF = 1 << 63


@dataclass(frozen=True)
class Relocations:
    """Relative relocations: the word at ``places[i]`` holds ``values[i]`` (virtual addresses)."""

    places: array[int]
    values: array[int]

    def __len__(self) -> int:
        return len(self.places)


NO_RELOCATIONS = Relocations(array(U64), array(U64))


def parse_rela(data: bytes) -> Relocations:
    """Return the relative ones of the Elf64_Rela entries in *data*, in their order."""
    table = words(U64, data[: len(data) - len(data) % ENTRY_SIZE])
    places, kinds, values = table[0::3], table[1::3], table[2::3]
    if kinds.count(R_AARCH64_RELATIVE) == len(kinds):
        return Relocations(places, values)
    rows = [row for row, kind in enumerate(kinds) if kind & _TYPE == R_AARCH64_RELATIVE]
    return Relocations(array(U64, (places[r] for r in rows)), array(U64, (values[r] for r in rows)))


def packed_places(data: bytes, room: int) -> array[int] | None:
    """Return the addresses of the words that the RELR table *data* names, in order.

    :param room: how far apart the first and the last of them can be, in bytes.
    :returns: None when *data* is no such table of a kernel, or one of more words than any kernel has.
    """
    entries = words(U64, data)
    if len(data) % _WORD or not 0 < len(entries) <= _MAX_PACKED:
        return None
    if entries[0] & 1 or entries[0] < _KERNEL_HALF:
        return None
    found = array(U64)
    following = entries[0]
    end = entries[0] + room
    for entry in entries:
        if entry & 1:
            bits, place = entry >> 1, following
            while bits:
                if bits & 1:
                    found.append(place)
                bits >>= 1
                place += _WORD
            following += _IN_MAP * _WORD
        else:
            if found and entry < found[-1] + _WORD:  # not all of them are aligned to words
                return None
            found.append(entry)
            following = entry + _WORD
        if found[-1] >= end or len(found) > _MAX_PACKED:
            return None
    return found


def resembles_rela(data: bytes) -> bool:
    """Return whether some bytes of *data* look like a table of relative relocations.

    A look is enough to refuse a kernel whose tables nothing bounds, never to apply what was found.
    """
    at = 0
    for _ in range(_MAX_RUNS):
        at = data.find(_INFO, at)
        if at < 0:
            return False
        if all(data.startswith(_INFO, at + ENTRY_SIZE * row) for row in range(1, _FEWEST)):
            return True
        at += 8
    return True  # nothing else holds that word so often


def apply(data: bytes, address: int, relocations: Relocations, source: str) -> bytes:
    """Return *data*, which is located at *address*, with the relocations of its words applied.

    :raises TargetError: a word to relocate holds something else than zero or what it is to hold, so
        the file was changed after it was linked, or two relocations of it disagree; or only a part of
        it is in *data*.
    """
    if not len(relocations):
        return data
    out = bytearray(data)
    size = len(data)
    zero = bytes(8)
    for place, value in zip(relocations.places, relocations.values, strict=True):
        offset = place - address
        if 0 <= offset <= size - 8:
            word = value.to_bytes(8, "little")
            before = out[offset : offset + 8]
            if before != zero and before != word:
                raise TargetError(
                    f"{source}: expected 0 or {value:#x} at {place:#x}, which is relocated, "
                    f"found {int.from_bytes(before, 'little'):#x}"
                )
            out[offset : offset + 8] = word
        elif -8 < offset < size:
            raise TargetError(
                f"{source}: expected whole words to relocate, found a part of one at {place:#x}"
            )
    return bytes(out)


def check_apart(relocations: Relocations, start: int, end: int, what: str, source: str) -> None:
    """Refuse relocations of the bytes from *start* up to *end*, which were read before any was applied.

    :raises TargetError: one of them changes *what* stands there.
    """
    for place in relocations.places:
        if start - 8 < place < end:
            raise TargetError(f"{source}: expected relocations apart from {what}, found one of {place:#x}")
