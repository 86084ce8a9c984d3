"""Lay out the memory of the bare machine: the address of each page, and the page tables."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

RAM = 0x4000_0000
"""First address of RAM on QEMU's ``virt``; the firmware's device tree is written there."""
WORK = RAM + 0x20_0000
"""First page of those that a run may change."""
STAGE = RAM + 0x100_0000
"""Where the pages are put by this process; the start-up code copies them to WORK."""
SLOTS = 40

CODE, KIMAGE, LIST_A, LIST_B, START, DTB = range(6)
DEST = (6, 7, 10, 11)
"""Pages that a list copies to; 8, 9 and 12 are next to them."""
BESIDE = (8, 9, 12)
SOURCE = (13, 14, 15, 16)
ZERO_PAGE = 17
TABLES = range(18, 28)
STUB = 28
STUB_SLOTS = 4
EL2_VECTORS = 32
CALLER = 33

# Page descriptors, Arm ARM D8.3: valid page, AF, inner shareable, memory type 0; EL0 may access none.
_PAGE = 0b11 | 1 << 10 | 3 << 8
_READ_ONLY = 1 << 7
_PXN, _UXN = 1 << 53, 1 << 54
_TABLE = 0b11
DATA = _PAGE | _PXN | _UXN
TEXT = _PAGE | _READ_ONLY | _UXN

_VA_BITS = {4096: 39, 16384: 36, 65536: 42}
"""Of both ranges: tables of whole levels, as kernels with these page sizes have them."""
_TG0 = {4096: 0, 16384: 2, 65536: 1}
_TG1 = {4096: 2, 16384: 1, 65536: 3}


@dataclass
class Image:
    """Pages of one run.

    :param page_size: bytes.
    :ivar data: the pages from WORK on.
    """

    page_size: int
    data: bytearray = field(init=False)
    _tables: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.data = bytearray(SLOTS * self.page_size)
        self._tables = list(TABLES)
        for slot in (*DEST, *BESIDE, *SOURCE, START, DTB):
            self.put(slot, 0, random.Random(slot).randbytes(self.page_size))

    def pa(self, slot: int) -> int:
        """Return the physical address of a page."""
        return WORK + slot * self.page_size

    def va(self, slot: int) -> int:
        """Return the address of a page in the linear map."""
        return (self.pa(slot) - self.phys_offset) & (1 << 64) - 1

    @property
    def phys_offset(self) -> int:
        """Return what is subtracted from a physical address to get the linear map's address."""
        return RAM + (1 << _VA_BITS[self.page_size])

    def put(self, slot: int, offset: int, data: bytes) -> None:
        """Write ``data`` into a page."""
        at = slot * self.page_size + offset
        self.data[at : at + len(data)] = data

    def put_words(self, slot: int, offset: int, words: Iterable[int]) -> None:
        """Write 64-bit words into a page."""
        for i, word in enumerate(words):
            self.put(slot, offset + 8 * i, struct.pack("<Q", word & (1 << 64) - 1))

    def page(self, slot: int, data: bytes | None = None) -> bytes:
        """Return the bytes of a page, here or in ``data``, which has the pages after a run."""
        at = slot * self.page_size
        return bytes((self.data if data is None else data)[at : at + self.page_size])

    @property
    def tcr(self) -> int:
        """Return TCR_EL1 for the tables: both ranges, cacheable, inner shareable, 40 bits of physical
        address.
        """
        size = 64 - _VA_BITS[self.page_size]
        walks = 1 << 8 | 1 << 10 | 3 << 12
        low = size | walks | _TG0[self.page_size] << 14
        high = size | walks | _TG1[self.page_size] << 14
        return low | high << 16 | 2 << 32

    def table(self, pages: dict[int, int]) -> int:
        """Build tables that map nothing but ``pages``: addresses to descriptors.

        :returns: physical address of the first table.
        """
        root = self._new_table()
        for address, descriptor in pages.items():
            self._map(root, address & (1 << _VA_BITS[self.page_size]) - 1, descriptor)
        return self.pa(root)

    def _new_table(self) -> int:
        if not self._tables:
            raise ValueError(f"expected at most {len(TABLES)} tables")
        return self._tables.pop(0)

    def _map(self, slot: int, address: int, descriptor: int) -> None:
        shift = self.page_size.bit_length() - 1
        bits = shift - 3
        levels = (_VA_BITS[self.page_size] - shift) // bits
        for level in range(levels - 1, -1, -1):
            index = address >> shift + level * bits & (1 << bits) - 1
            at = slot * self.page_size + 8 * index
            if level == 0:
                self.put(slot, 8 * index, struct.pack("<Q", descriptor))
                return
            (entry,) = struct.unpack_from("<Q", self.data, at)
            if not entry:
                below = self._new_table()
                self.put(slot, 8 * index, struct.pack("<Q", self.pa(below) | _TABLE))
                slot = below
            else:
                slot = ((entry & ~_TABLE) - WORK) // self.page_size


@dataclass(frozen=True)
class Registers:
    """The registers that the start-up code sets before it enters EL1, in the order of the control block."""

    hcr_el2: int
    vbar_el2: int
    vbar_el1: int
    ttbr0: int
    ttbr1: int
    sctlr_el1: int
    sp_el1: int
    entry: int
    tcr: int
    mair: int = 0xFF
    spsr: int = 0x3C5  # EL1 with SP_EL1, everything masked
    sctlr_el2: int = 0x30C5_0830
    cptr_el2: int = 0x33FF

    def words(self, length: int) -> list[int]:
        """Return the parameters, for ``length`` bytes of pages."""
        return [
            STAGE,
            WORK,
            length,
            self.hcr_el2,
            self.vbar_el2,
            self.vbar_el1,
            self.mair,
            self.tcr,
            self.ttbr0,
            self.ttbr1,
            self.sctlr_el1,
            self.sp_el1,
            self.entry,
            self.spsr,
            self.sctlr_el2,
            self.cptr_el2,
        ]
