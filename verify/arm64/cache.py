"""Data-cache lines as ghost state: whether a word's latest value is at the point of coherency.

The state of a word is a layered function of its address, like memory. A store makes the words it covers
DIRTY. Maintenance by address makes the line that holds the address PENDING. A DSB completes what is pending.
(Arm ARM, B2.8 and D7.5: cache maintenance instructions complete at a DSB for reads and writes that covers the
shareability domain.) Clean lines have no state of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

from kexec_verify.logic import (
    TRUE,
    And,
    Formula,
    Function,
    If,
    Or,
    Term,
    const,
    constant,
    difference,
    normal,
    offset_from,
    same,
    ule,
    ult,
    var,
)
from kexec_verify.memory import WORD_BYTES

CLEAN = const(0, 2)
"""The point of coherency holds the latest value and no cached copy can change that."""
PENDING = const(1, 2)
"""Maintenance was issued and is not known to be complete."""
DIRTY = const(2, 2)
"""The latest value may be in a cache only, or a stale cached copy may exist."""
LOST = const(3, 2)
"""The latest value was in a cache and was invalidated: the contents are unpredictable."""

STALE, FETCHABLE = DIRTY, CLEAN
"""Of the instruction cache, in the fetch state of a word: it may hold an older value; it does not."""

CTR_EL0 = var("ctr_el0")


def line_size() -> Term:
    """Return the size in bytes of the smallest data-cache line: 4 << CTR_EL0.DminLine (Arm ARM, D24.2.34)."""
    return const(4) << CTR_EL0[19:16].zero_extend(60)


def line(address: Term) -> Term:
    """Return the first address of the data-cache line that holds ``address``."""
    return address & ~(line_size() - 1)


def fetch_line(address: Term) -> Term:
    """Return the first address of the instruction-cache line that holds ``address`` (CTR_EL0.IminLine)."""
    size = const(4) << CTR_EL0[3:0].zero_extend(60)
    return address & ~(size - 1)


@dataclass(frozen=True)
class Lines:
    """Line states in which nothing is known: an unknown function of the address."""

    name: str

    def read(self, address: Term) -> Term:
        """Return the 2-bit state of the word at ``address``."""
        return Function(self.name, 2)(address)


@dataclass(frozen=True)
class Stored:
    """``below`` after stores to the ``length`` bytes from ``start``.

    With the MMU on a store goes to the cache. With it off it goes to memory past the
    cache (Arm ARM, D7.2.10), and stays clean only where no line was left.
    """

    below: LineState
    start: Term
    length: Term
    cacheable: Formula

    def read(self, address: Term) -> Term:
        """Return the 2-bit state of the word at ``address``."""
        before = self.below.read(address)
        uncached = If(before == CLEAN, CLEAN, DIRTY)
        covered = ult(difference(address, self.start), self.length)
        return If(covered, If(self.cacheable, DIRTY, uncached), before)


@dataclass(frozen=True)
class Maintained:
    """``below`` after one maintenance instruction on each line of ``length`` bytes from ``start``.

    :param operation: ``civac``, ``cvac`` or ``ivac``.
    :param length: None for the one line that holds ``start``.
    """

    below: LineState
    start: Term
    length: Term | None
    operation: str
    cacheable: Formula

    def read(self, address: Term) -> Term:
        """Return the 2-bit state of the word at ``address``."""
        before = self.below.read(address)
        if self.length is None:
            touched = line(address) == line(self.start)
        else:
            touched = ult(normal(line(address) - line(self.start)), self.length)
        return If(touched, self._maintained(before), before)

    def _maintained(self, before: Term) -> Term:
        cleaned = If(before == DIRTY, PENDING, before)
        match self.operation:
            case "civac":
                return cleaned
            case "cvac":
                # A line that stays valid is coherent only for the accesses that look it up.
                return If(self.cacheable, cleaned, before)
            case _:
                # Invalidation loses what only the cache held; with the MMU off nothing is held there.
                return If(self.cacheable, If(before == DIRTY, LOST, before), cleaned)


@dataclass(frozen=True)
class Invalidated:
    """Fetch states after the instruction-cache lines of ``length`` bytes from ``start`` were invalidated.

    What is fetched afterwards comes from the point of unification, so it is the latest value
    only where the data cache has been cleaned: where ``data`` is CLEAN.

    :param length: None for the one line that holds ``start``.
    """

    below: LineState
    start: Term
    length: Term | None
    data: LineState

    def read(self, address: Term) -> Term:
        """Return the 2-bit state of the word at ``address``."""
        before = self.below.read(address)
        if self.length is None:
            touched = fetch_line(address) == fetch_line(self.start)
        else:
            touched = ult(normal(fetch_line(address) - fetch_line(self.start)), self.length)
        helps = And(touched, before == STALE, self.data.read(address) == CLEAN)
        return If(helps, PENDING, before)


@dataclass(frozen=True)
class Changed:
    """Fetch states after stores to the ``length`` bytes from ``start``."""

    below: LineState
    start: Term
    length: Term

    def read(self, address: Term) -> Term:
        """Return the 2-bit state of the word at ``address``."""
        covered = ult(difference(address, self.start), self.length)
        return If(covered, STALE, self.below.read(address))


@dataclass(frozen=True)
class Touched:
    """``below`` after a store to the ``length`` bytes from ``start``, which may be parts of words.

    A store to one part of a word does not restore another part that was lost.

    What was lost of a word is not brought back by a store to another part of it.

    :param cacheable: as of Stored; None for fetch states.
    """

    below: LineState
    start: Term
    length: Term
    cacheable: Formula | None

    def read(self, address: Term) -> Term:
        """Return the 2-bit state of the word at ``address``."""
        before = self.below.read(address)
        first = ult(difference(address, self.start), self.length)
        overlaps = Or(first, ult(difference(self.start, address), const(WORD_BYTES)))
        if self.cacheable is None:
            return If(overlaps, STALE, before)
        uncached = If(before == CLEAN, CLEAN, DIRTY)
        after = If(before == LOST, LOST, If(self.cacheable, DIRTY, uncached))
        return If(overlaps, after, before)


@dataclass(frozen=True)
class Completed:
    """``below`` after a DSB that completes maintenance by address."""

    below: LineState

    def read(self, address: Term) -> Term:
        """Return the 2-bit state of the word at ``address``."""
        before = self.below.read(address)
        return If(before == PENDING, CLEAN, before)


@dataclass(frozen=True)
class Cleaned:
    """``below`` after all maintenance of the bytes from ``start`` up to ``end`` is complete.

    Other words on the first and last line are not improved. LOST stays lost.

    Of other words on the first and last line nothing better is said. LOST stays lost.

    :param data: for fetch states, the line states that decide whether a refetched value is the latest.
    """

    below: LineState
    start: Term
    end: Term
    data: LineState | None

    def read(self, address: Term) -> Term:
        """Return the 2-bit state of the word at ``address``."""
        before = self.below.read(address)
        covered = And(ule(self.start, address), ult(address, self.end))
        latest = TRUE if self.data is None else self.data.read(address) == CLEAN
        return If(And(covered, before != LOST, latest), CLEAN, before)


def stored(below: LineState, start: Term, length: Term, cacheable: Formula) -> LineState:
    """Return ``below`` after stores to ``length`` bytes from ``start``; neighbouring stores make one
    layer.
    """
    if isinstance(below, Stored) and same(below.cacheable, cacheable):
        before, added = constant(below.length), constant(length)
        if before is not None and added is not None and offset_from(start, below.start) == before:
            return Stored(below.below, below.start, const(before + added), cacheable)
    return Stored(below, start, length, cacheable)


type LineState = Lines | Stored | Touched | Maintained | Completed | Invalidated | Changed | Cleaned
