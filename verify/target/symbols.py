"""Symbols of a kernel, kept in columns so that opening one builds no object per symbol."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol


@dataclass(frozen=True)
class Symbol:
    """One name of the kernel: *address* is virtual, *size* is in bytes or None."""

    name: str
    address: int
    size: int | None


class Names(Protocol):
    """The names of a symbol table, by row."""

    def name(self, row: int) -> str:
        """Return the name that *row* holds."""

    def rows(self, name: str) -> Sequence[int]:
        """Return the rows that hold *name*, lowest first."""


class ListedNames:
    """Names that are already decoded, one per row."""

    def __init__(self, names: Sequence[str]):
        self._names = names

    def name(self, row: int) -> str:
        """Return the name that *row* holds."""
        return self._names[row]

    def rows(self, name: str) -> Sequence[int]:
        """Return the rows that hold *name*, lowest first."""
        found: list[int] = []
        row = -1
        try:
            while True:
                row = self._names.index(name, row + 1)
                found.append(row)
        except ValueError:
            return found


class SymbolTable:
    """The symbols of one kernel.

    :param names: the names, by row.
    :param addresses: virtual addresses, by row.
    :param sizes: sizes in bytes by row, 0 where unknown; None when no row has one (kallsyms).
    :param hidden: rows that do not bound the row before them (constants, mapping symbols).
    :param is_global: a byte per row, not 0 where the symbol is global.
    """

    def __init__(
        self,
        names: Names,
        addresses: array[int],
        sizes: array[int] | None = None,
        hidden: frozenset[int] = frozenset(),
        is_global: bytes = b"",
    ):
        self._names = names
        self._addresses = addresses
        self._sizes = sizes
        self._hidden = hidden
        self._global = is_global

    def __len__(self) -> int:
        return len(self._addresses) - len(self._hidden)

    def __iter__(self) -> Iterator[Symbol]:
        """Yield the symbols by address, with the sizes that the table itself gives."""
        for row in self._order:
            size = self._sizes[row] if self._sizes is not None else 0
            yield Symbol(self._names.name(row), self._addresses[row], size or None)

    def lookup(self, name: str) -> Symbol | None:
        """Return the symbol *name*, a global one before a local one, or None."""
        rows = self._names.rows(name)
        if not rows:
            return None
        chosen = min(rows, key=lambda row: (not self._is_global(row), row))
        return Symbol(name, self._addresses[chosen], self._size(chosen))

    def at(self, address: int) -> list[str]:
        """Return the names of exactly *address*, sorted."""
        first = bisect_left(self._sorted, address)
        last = bisect_right(self._sorted, address)
        return sorted(self._names.name(self._order[i]) for i in range(first, last))

    def before(self, address: int) -> Symbol | None:
        """Return the nearest symbol at or below *address*, or None."""
        last = bisect_right(self._sorted, address)
        if not last:
            return None
        first = bisect_left(self._sorted, self._sorted[last - 1])
        rows = self._order[first:last]
        chosen = min(rows, key=lambda row: (not self._is_global(row), row))
        return Symbol(self._names.name(chosen), self._addresses[chosen], self._size(chosen))

    def moved(self, distance: int) -> "SymbolTable":
        """Return the same symbols at addresses *distance* bytes higher, modulo ``2**64``."""
        addresses = array("Q", ((address + distance) % (1 << 64) for address in self._addresses))
        return SymbolTable(self._names, addresses, self._sizes, self._hidden, self._global)

    def _is_global(self, row: int) -> bool:
        return row < len(self._global) and self._global[row] != 0

    def _size(self, row: int) -> int | None:
        if self._sizes is not None and self._sizes[row]:
            return self._sizes[row]
        following = bisect_right(self._sorted, self._addresses[row])
        if following == len(self._sorted):
            return None
        return self._sorted[following] - self._addresses[row]

    @cached_property
    def _order(self) -> Sequence[int]:
        rows: Sequence[int] = range(len(self._addresses))
        if self._hidden:
            rows = [row for row in rows if row not in self._hidden]
        return sorted(rows, key=self._addresses.__getitem__)

    @cached_property
    def _sorted(self) -> array[int]:
        return array("Q", map(self._addresses.__getitem__, self._order))


NO_SYMBOLS = SymbolTable(ListedNames(()), array("Q"))
