"""Translation tables, walked in plain integers (Arm ARM, D8.3): granules of 4, 16 and 64 KiB, LVA, LPA2."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

NORMAL_WRITE_BACK = 0xFF
"""MAIR_ELx.Attr: Normal memory, inner and outer write-back, read- and write-allocate."""
TCR_HD = 1 << 40
"""TCR_EL1.HD, and TCR_EL2.HD with E2H: hardware clears AP[2] at a write where the descriptor has DBM."""
_TCR_DS = 1 << 59
_READ_ONLY, _ACCESSED = 1 << 7, 1 << 10
_PXN, _UXN = 1 << 53, 1 << 54
_TABLE_READ_ONLY, _TABLE_PXN, _TABLE_UXN = 1 << 62, 1 << 59, 1 << 60
_GRANULES = ({0: 12, 1: 16, 2: 14}, {1: 14, 2: 12, 3: 16})
"""log2 of the granule by TG0 and by TG1."""

type Read = Callable[[int, int], bytes]
"""From a physical address and a number of bytes to what memory holds there."""


@dataclass(frozen=True)
class Leaf:
    """What one address is mapped to.

    :param pa: physical address.
    :param descriptor: of the page or block, and ``size`` of that in bytes.
    :param above: attributes that the tables above add.
    """

    pa: int
    descriptor: int
    size: int
    above: int = 0

    @property
    def writable(self) -> bool:
        """AP[2] and APTable[1] allow stores; what hardware would change at a store does not count."""
        return not self.descriptor & _READ_ONLY and not self.above & _TABLE_READ_ONLY

    @property
    def accessed(self) -> bool:
        """The access flag is set."""
        return bool(self.descriptor & _ACCESSED)

    @property
    def executable(self) -> bool:
        """The kernel may execute it."""
        return not self.descriptor & _PXN and not self.above & _TABLE_PXN

    def memory_type(self, mair: int) -> int:
        """Return its attributes in MAIR_ELx."""
        return mair >> 8 * (self.descriptor >> 2 & 7) & 0xFF


@dataclass
class Tables:
    """The tables of one half of the address space.

    :param base: value of the TTBR; ``tcr`` of TCR_ELx.
    :param high: the half at the top, which TTBR1 translates.
    :param t0sz: in place of TCR's TnSZ.
    :ivar pages: physical addresses of the tables that were read.
    """

    read: Read
    base: int
    tcr: int
    high: bool
    t0sz: int | None = None
    pages: set[int] = field(default_factory=set)
    _cache: dict[int, tuple[int, ...]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.shift = _GRANULES[self.high][self.tcr >> (30 if self.high else 14) & 3]
        size = self.tcr >> (16 if self.high else 0) & 0x3F
        self.bits = 64 - (size if self.t0sz is None else self.t0sz)
        self.ds = bool(self.tcr & _TCR_DS)
        self.root = self.base & 0x0000_FFFF_FFFF_FFFE
        if self.ds or (self.shift == 16 and self.base & 0x3C):
            self.root = (self.base & 0x0000_FFFF_FFFF_FFC0) | (self.base >> 2 & 0xF) << 48

    @property
    def _first_level(self) -> int:
        return 4 - -(-(self.bits - self.shift) // (self.shift - 3))

    def _low(self, level: int) -> int:
        return self.shift + (self.shift - 3) * (3 - level)

    def _output(self, descriptor: int, low: int) -> int:
        if self.ds:
            return descriptor & (1 << 50) - (1 << low) | (descriptor >> 8 & 3) << 50
        found = descriptor & (1 << 48) - (1 << low)
        return found | (descriptor >> 12 & 0xF) << 48 if self.shift == 16 else found

    def _entries(self, base: int, count: int) -> tuple[int, ...]:
        self.pages.add(base & ~((1 << self.shift) - 1))
        if base not in self._cache:
            self._cache[base] = struct.unpack(f"<{count}Q", self.read(base, 8 * count))
        return self._cache[base]

    def _count(self, level: int) -> int:
        first = level == self._first_level
        return 1 << (self.bits - self._low(level) if first else self.shift - 3)

    def walk(self, address: int) -> Leaf | None:
        """Return what ``address`` is mapped to; None if nothing is."""
        offset = address & (1 << self.bits) - 1
        if (address >> self.bits) != ((1 << (64 - self.bits)) - 1 if self.high else 0):
            return None
        base, above = self.root, 0
        for level in range(self._first_level, 4):
            low, count = self._low(level), self._count(level)
            descriptor = self._entries(base, count)[offset >> low & count - 1]
            if not descriptor & 1 or (level == 3 and not descriptor & 2):
                return None
            if level == 3 or not descriptor & 2:
                pa = self._output(descriptor, low) | offset & (1 << low) - 1
                return Leaf(pa, descriptor, 1 << low, above)
            above |= descriptor & 0x1F << 59
            base = self._output(descriptor, self.shift)
        return None

    def leaves(self, start: int, end: int) -> Iterator[tuple[int, Leaf]]:
        """Yield address and mapping of each page and block from ``start`` up to ``end``, ascending."""
        origin = (1 << 64) - (1 << self.bits) if self.high else 0
        yield from self._below(self.root, self._first_level, origin, 0, start, end)

    def _below(
        self, base: int, level: int, origin: int, above: int, start: int, end: int
    ) -> Iterator[tuple[int, Leaf]]:
        low = self._low(level)
        for index, descriptor in enumerate(self._entries(base, self._count(level))):
            address = origin + (index << low)
            if not descriptor & 1 or address + (1 << low) <= start or address >= end:
                continue
            if level == 3 or not descriptor & 2:
                yield address, Leaf(self._output(descriptor, low), descriptor, 1 << low, above)
            else:
                table = self._output(descriptor, self.shift)
                further = above | descriptor & 0x1F << 59
                yield from self._below(table, level + 1, address, further, start, end)
