"""Define a concrete environment for the routine: arguments, a list, memory, and how EL2 answers."""

from __future__ import annotations

import functools
import struct
from array import array
from collections.abc import Iterable

import msgspec
from kexec_verify.specs.kimage import KimageLayout

MASK = (1 << 64) - 1
WORD = 8
RAM_PAGES = 32
SCTLR_OFF = 0x30D0_0800
"""SCTLR_EL1 in runs of a routine that is entered with the MMU off."""
ENTRY_TTBR1 = 0x1_4200_0000
"""TTBR1_EL1 when the routine is entered."""
SP = 31
"""The number by which a scenario knows SP."""
_MARK = 0xC0DE << 48


class Scenario(msgspec.Struct, frozen=True):
    """Everything that determines a run, as plain data.

    A page at physical address pa is seen at pa - phys_offset (mod 2**64).

    :param words: the list's words by the address at which the routine sees them.
    :param arch: offset of struct kimage_arch in struct kimage, in bytes.
    :param kimage_at: address of struct kimage in the kernel's linear map; 0 if arguments are registers.
    :param ram: first physical address of memory; it has RAM_PAGES pages.
    :param dminline: CTR_EL0.DminLine.
    :param hvc: ``taken`` or ``refused``.
    :param garbage: values of registers that the caller does not set: ``marked`` values, ``zero``, or
        ``addresses`` in memory.
    :param dirty: pages, as the routine sees them, that caches hold lines of at entry.
    :param well_formed: the list satisfies W1 … W7; otherwise only the list machine is defined for it.
    """

    name: str
    page_size: int
    phys_offset: int
    ram: int
    head: int
    words: tuple[tuple[int, int], ...]
    start: int
    dtb_mem: int
    el2_vectors: int
    ttbr1: int
    zero_page: int
    arch: int
    kimage_at: int
    dminline: int
    hvc: str
    garbage: str
    dirty: tuple[int, ...]
    well_formed: bool

    @property
    def kimage(self) -> bool:
        """Return whether the argument is a pointer to struct kimage."""
        return self.kimage_at != 0

    @property
    def line_size(self) -> int:
        """Return the size of a data-cache line in bytes."""
        return 4 << self.dminline

    @property
    def ram_at(self) -> int:
        """Return the first address of memory as the routine sees it."""
        return self.seen(self.ram)

    @property
    def ram_bytes(self) -> int:
        """Return the size of memory in bytes."""
        return RAM_PAGES * self.page_size

    def seen(self, physical: int) -> int:
        """Return the address at which the routine sees a physical address."""
        return (physical - self.phys_offset) & MASK

    def unset(self, number: int) -> int:
        """Return an arbitrary value for a register x0 … x30 or SP (31) that the caller does not set."""
        match self.garbage:
            case "zero":
                return 0
            case "addresses":
                return (self.ram_at + self.ram_bytes - 2 * self.page_size + number * 64) & MASK
        # Bits 0-3 and 16-19 are where a value that was never set does harm: SCTLR_EL1.M and .C, the
        # flags of a word, CTR_EL0.DminLine.
        return 0xBAD0_0000_000F_000F | number << 32 | number << 8

    def fields(self) -> dict[str, int]:
        """Return the kimage's fields that the routine may use; without a kimage, its arguments."""
        values = {"head": self.head, "start": self.start, "dtb_mem": self.dtb_mem}
        if self.kimage:
            values |= {
                "el2_vectors": self.el2_vectors,
                "ttbr1": self.ttbr1,
                "zero_page": self.zero_page,
                "phys_offset": self.phys_offset,
            }
        return values

    def placed(self) -> list[tuple[int, int]]:
        """Return each word of memory that is set on purpose: address as the routine sees it, value."""
        placed = list(self.words)
        if self.kimage:
            layout = KimageLayout(self.arch)
            for name, value in self.fields().items():
                placed.append((self.kimage_at + getattr(layout, name), value))
        return placed

    def arguments(self) -> dict[str, int]:
        """Return the registers that the caller sets."""
        if self.kimage:
            return {"x0": self.kimage_at}
        return {"x0": self.head, "x1": self.start, "x2": self.dtb_mem}


@functools.lru_cache(maxsize=16)
def background(start: int, length: int) -> array[int]:
    """Return the default value of a memory word: it names its own address, and has no IND_DONE."""
    low = start & (1 << 48) - 1
    return array("Q", (_MARK | (low + offset) & (1 << 48) - 1 for offset in range(0, length, WORD)))


class OutsideError(Exception):
    """An address outside of memory, or one that is not a word's."""


class Words:
    """Memory of a scenario as words; pages are copied when first written.

    The list machine uses it; its ``copy`` changes it in place.
    """

    def __init__(self, scenario: Scenario):
        self.start = scenario.ram_at
        self.page_size = scenario.page_size
        self._base = background(self.start, scenario.ram_bytes)
        self._pages: dict[int, array[int]] = {}
        self.touched: set[int] = set()  # pages written since the start
        for address, value in scenario.placed():
            self.write(address, value)
        self.touched.clear()

    def _find(self, address: int) -> tuple[int, int]:
        """Return the number of the page and of the word in it."""
        offset = (address - self.start) & MASK
        if offset % WORD or offset >= len(self._base) * WORD:
            raise OutsideError(f"{address & MASK:#x}")
        page, rest = divmod(offset, self.page_size)
        return page, rest // WORD

    def _page(self, page: int) -> array[int]:
        found = self._pages.get(page)
        if found is None:
            count = self.page_size // WORD
            found = self._base[page * count : (page + 1) * count]
            self._pages[page] = found
        return found

    def read(self, address: int) -> int:
        """Return the word at ``address``.

        :raises OutsideError: if there is none.
        """
        page, word = self._find(address)
        return self._page(page)[word]

    def write(self, address: int, value: int) -> None:
        """Set the word at ``address``."""
        page, word = self._find(address)
        self._page(page)[word] = value
        self.touched.add(self.start + page * self.page_size & MASK)

    def page(self, address: int) -> array[int]:
        """Return the words of the page at ``address``, which must not be changed."""
        return self._page(self._find(address)[0])

    def copy(self, dest: int, source: int, length: int) -> Words:
        """Return this memory after a copy of one whole page."""
        to, first = self._find(dest)
        origin, second = self._find(source)
        if first or second or length != self.page_size:
            raise OutsideError(f"copy of {length} bytes from {source & MASK:#x} to {dest & MASK:#x}")
        self._pages[to] = self._page(origin)[:]
        self.touched.add(self.start + to * self.page_size & MASK)
        return self


def image(scenario: Scenario) -> bytes:
    """Return the bytes of memory at entry."""
    data = bytearray(background(scenario.ram_at, scenario.ram_bytes).tobytes())
    for address, value in scenario.placed():
        struct.pack_into("<Q", data, (address - scenario.ram_at) & MASK, value)
    return bytes(data)


def explain(value: int, scenario: Scenario) -> str:
    """Describe ``value``: the address that held it at entry, or a plain number."""
    if value >> 48 == 0xC0DE:
        address = value & (1 << 48) - 1
        page = scenario.ram_at & (1 << 48) - 1
        if 0 <= address - page < scenario.ram_bytes:
            return f"{value:#x} (at entry the word at {scenario.ram_at + address - page:#x})"
    return f"{value:#x}"


def neighbours(pages: Iterable[int]) -> set[int]:
    """Return page numbers, each with the one before and the one after."""
    return {near for page in pages for near in (page - 1, page, page + 1) if 0 <= near < RAM_PAGES}
