"""Tables that trans_pgd_create_copy is run over: pages or blocks where one table ends and the next begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kexec_verify.specs import page_tables as spec

MEMSTART = 0x4000_0000
"""The physical address of page 0 of the linear map."""
DATA = 0x80
"""The number of the first page of memory that an entry maps."""
_WORD = 8


@dataclass(frozen=True)
class Geometry:
    """How the kernel's addresses are translated.

    :param page: a page's size in bytes; ``bits``: of a virtual address; ``linear``: where page 0 is mapped.
    """

    page: int
    bits: int
    linear: int

    @property
    def first(self) -> int:
        """The first address that TTBR1's tables translate."""
        return -(1 << self.bits) % (1 << 64)

    @property
    def levels(self) -> int:
        """How many levels of tables there are."""
        return -(-(self.bits - self.shift(0)) // self._index_bits)

    @property
    def _index_bits(self) -> int:
        return self.page.bit_length() - 4

    def shift(self, level: int) -> int:
        """How many bits of an address one entry maps, at a level counted from the last one, 0."""
        return self.page.bit_length() - 1 + level * self._index_bits

    def slot(self, address: int, level: int) -> int:
        """Return the offset in bytes of the entry of ``address`` in its table."""
        return (address - self.first >> self.shift(level)) % (1 << self._index_bits) * _WORD

    def virtual(self, number: int) -> int:
        """Return where the linear map shows the page of that number."""
        return self.linear + number * self.page


@dataclass(frozen=True)
class Scene:
    """A range to copy, and what the kernel's tables have there.

    :param leaves: the entries of pages and blocks, by virtual address; ``level``: of all of them.
    """

    geometry: Geometry
    start: int
    end: int
    leaves: dict[int, int]
    level: int = 0

    def memory(self, top: int) -> dict[int, int]:
        """Return the words of the tables, by address: the top table at ``top``, others from page 1 on."""
        at = self.geometry
        words: dict[int, int] = {}
        tables = 1
        for address, leaf in self.leaves.items():
            table = top
            for level in reversed(range(self.level + 1, at.levels)):
                place = table + at.slot(address, level)
                if place not in words:
                    words[place] = MEMSTART + tables * at.page | spec.PTE_TYPE_PAGE
                    tables += 1
                table = (words[place] & -at.page) - MEMSTART + at.linear
            words[table + at.slot(address, self.level)] = leaf
        return words


def one_page(geometry: Geometry, entry: int) -> Scene:
    """Return the scene with one page."""
    first = geometry.first
    return Scene(geometry, first, first + geometry.page, {first: entry})


def scenes(geometry: Geometry, protection: int) -> Iterator[Scene]:
    """Yield scenes around the ends of tables of each level: pages, and blocks where there can be.

    Pages are there around the end of a level's first table, and of its last but one in the linear map, which
    is the lower half of the addresses. In each scene there is a hole before that end, and an entry that
    set_memory_ro has made read-only.
    """
    first, half = geometry.first, 1 << geometry.bits - 1
    # Blocks are of level 1, with pages of 4 KiB also of level 2 (Arm ARM, D8.3).
    for level in range(2 if geometry.page == 1 << 12 else 1, -1, -1):
        for above in range(level + 1, geometry.levels):
            table = 1 << geometry.shift(above)
            yield _around(geometry, first + half - table, level, protection)
            if level == 0:
                yield _around(geometry, first + table, level, protection)


def _around(geometry: Geometry, boundary: int, level: int, protection: int) -> Scene:
    size = 1 << geometry.shift(level)
    kind = spec.PTE_TYPE_PAGE if level == 0 else spec.PTE_VALID
    made = protection & ~spec.PTE_TYPE_PAGE | kind
    leaves = {}
    for number in (-4, -3, -1, 0, 1):
        output = MEMSTART + DATA * geometry.page + (number + 5) * size & -size
        entry = made | output
        leaves[boundary + number * size] = entry ^ (spec.PTE_DBM | spec.PTE_RDONLY if number == -3 else 0)
    return Scene(geometry, boundary - 4 * size, boundary + 2 * size, leaves, level)
