"""Distinguish BUG from WARN, which are the same brk instruction, by the kernel's __bug_table.

Facts: include/linux/bug.h and lib/bug.c (``struct bug_entry`` with relative pointers: the
brk's address as a signed 32-bit distance from the entry, then, with CONFIG_DEBUG_BUGVERBOSE,
the file's; line; flags, of which bit 0 is BUGFLAG_WARNING), arch/arm64/include/asm/brk-imm.h
(BUG_BRK_IMM is 0x800).
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable

from kexec_verify.target.kernel import Kernel

BUG_BRK_IMM = 0x800
_WARNING = 1
_START, _STOP = "__start___bug_table", "__stop___bug_table"
_LOOKED_AT = 256  # entries
_BLOCK = 1 << 14  # words
_ENTRY_SIZES = {12: 10, 8: 4}  # bytes of an entry, with and without file and line, and where its flags are


def warnings(kernel: Kernel, addresses: Iterable[int]) -> dict[int, bool]:
    """Return which of the brk instructions at *addresses* are a WARN (True) or a BUG (False).

    Without symbols of the table's ends the image is searched for entries. A brk without
    exactly one entry is left out: nothing is known of it.
    """
    wanted = set(addresses)
    start, stop = kernel.symbol(_START), kernel.symbol(_STOP)
    sizes = _table_sizes(kernel, start.address, stop.address) if start and stop else None
    found: dict[int, list[bool]] = {}
    for segment in kernel.segments:
        low = start.address if start else segment.address
        high = stop.address if stop else segment.end
        low, high = max(low, segment.address), min(high, segment.end)
        for brk, entry in _entries(kernel, low, high, wanted):
            if sizes is None:
                flags = _flags(kernel, entry, low, high)
            else:
                flags = _flags_in_table(kernel, entry - low, low, sizes)
            if flags is not None:
                found.setdefault(brk, []).append(bool(flags & _WARNING))
    return {brk: kinds[0] for brk, kinds in found.items() if len(kinds) == 1}


def _entries(kernel: Kernel, low: int, high: int, wanted: set[int]) -> list[tuple[int, int]]:
    """Yield, for each self-relative word in the range that points at a wanted brk, the brk and the word."""
    low = -(-low // 4) * 4
    if low + 4 > high:
        return []
    data = kernel.read(low, (high - low) // 4 * 4)
    words = array("i")
    words.frombytes(data)
    distances = {brk - low: brk for brk in wanted}
    # Over a block of 64 KiB bits 16 to 23 of such a word have two values at most: only these are looked at.
    middle, hits = data[2::4], []
    for start in range(0, len(words), _BLOCK):
        end = min(start + _BLOCK, len(words))
        for value in {distance - 4 * i >> 16 & 0xFF for distance in distances for i in (start, end - 1)}:
            i = middle.find(value, start, end)
            while i >= 0:
                if words[i] + 4 * i in distances:
                    hits.append(i)
                i = middle.find(value, i + 1, end)
    hits.sort()
    return [(distances[words[i] + 4 * i], low + 4 * i) for i in hits]


def _table_sizes(kernel: Kernel, low: int, high: int) -> list[int]:
    """Return the entry sizes with which each of the table's first entries points at a brk."""
    return [
        size
        for size in _ENTRY_SIZES
        if (high - low) % size == 0
        and all(
            _points_at_brk(kernel, entry) for entry in range(low, min(high, low + _LOOKED_AT * size), size)
        )
    ]


def _flags_in_table(kernel: Kernel, offset: int, low: int, sizes: list[int]) -> int | None:
    """Return the flags of the entry at ``offset``; None if its size is not certain or it is no entry."""
    if len(sizes) != 1 or offset % sizes[0]:
        return None
    (flags,) = struct.unpack("<H", kernel.read(low + offset + _ENTRY_SIZES[sizes[0]], 2))
    return int(flags)


def _flags(kernel: Kernel, entry: int, low: int, high: int) -> int | None:
    """Return the flags of the entry, if the size of an entry is known.

    A neighbour that points at a brk as well tells it, or that the table has this entry alone.
    """
    sizes = []
    for size in _ENTRY_SIZES:
        neighbours = [e for e in (entry - size, entry + size) if low <= e and e + size <= high]
        if (low, high) == (entry, entry + size) or any(_points_at_brk(kernel, e) for e in neighbours):
            sizes.append(size)
    if len(sizes) != 1:
        return None
    (flags,) = struct.unpack("<H", kernel.read(entry + _ENTRY_SIZES[sizes[0]], 2))
    return int(flags)


def _points_at_brk(kernel: Kernel, entry: int) -> bool:
    (distance,) = struct.unpack("<i", kernel.read(entry, 4))
    target = entry + distance
    if target % 4 or not kernel.mapped(target, 4):
        return False
    return int.from_bytes(kernel.read(target, 4), "little") >> 21 == 0b11010100001
