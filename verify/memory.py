"""Memory as a term: an unknown function at the bottom, and layers over it.

Addresses are those of naturally aligned 64-bit words. That every access is aligned is an obligation of its
own, on which all others depend.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import (
    Formula,
    Function,
    If,
    Term,
    const,
    constant,
    difference,
    normal,
    offset_from,
    ult,
)

WORD_BYTES = 8


class Memory(ABC):
    """The contents of memory at one moment; immutable."""

    words = True
    """Accesses are of aligned words: the size is checked here, the alignment is a proof obligation."""

    def __init__(self) -> None:
        self._known: dict[int, Term] = {}

    def read(self, address: Term) -> Term:
        """Return the 64-bit word at ``address``."""
        address = normal(address)
        key = address.hash()
        if key not in self._known:
            self._known[key] = self._read(address)
        return self._known[key]

    @abstractmethod
    def _read(self, address: Term) -> Term: ...

    def load(self, address: Term, size: int) -> Term:
        """Return the ``size`` bytes at ``address``; here only whole words.

        :raises UnsupportedError: for a size that this memory does not have.
        """
        if size != WORD_BYTES:
            raise UnsupportedError(f"load of {size} bytes")
        return self.read(address)

    def store(self, address: Term, value: Term) -> Memory:
        """Return this memory after a store of as many bytes as ``value`` is wide; here only whole words.

        :raises UnsupportedError: for a size that this memory does not have.
        """
        if value.length != WORD_BYTES * 8:
            raise UnsupportedError(f"store of {value.length // 8} bytes")
        return self.write(address, value)

    def write(self, address: Term, value: Term) -> Memory:
        """Return this memory after the word at ``address`` was set to ``value``."""
        return Written(self, normal(address), value)

    def copy(self, dest: Term, source: Term, length: Term | int, origin: Memory | None = None) -> Memory:
        """Return this memory after ``length`` bytes were copied to ``dest`` from ``source`` of ``origin``.

        :param origin: the memory copied from; without one this memory itself.
        """
        size = const(length) if isinstance(length, int) else length
        return Copied(self, normal(dest), normal(source), size, origin or self)


class Unknown(Memory):
    """Memory of which nothing is known: the function called ``name`` of the address."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def _read(self, address: Term) -> Term:
        return Function(self.name)(address)


class Written(Memory):
    """``below`` after a store of one word."""

    def __init__(self, below: Memory, address: Term, value: Term):
        super().__init__()
        self.below, self.address, self.value = below, address, value

    def _read(self, address: Term) -> Term:
        offset = offset_from(address, self.address)
        if offset == 0:
            return self.value
        if offset is None:
            return If(address == self.address, self.value, self.below.read(address))
        if abs(offset) < WORD_BYTES:
            raise UnsupportedError("access that overlaps another word in part")
        return self.below.read(address)


class Copied(Memory):
    """``below`` with ``length`` bytes at ``dest`` being those of ``origin`` at ``source``."""

    def __init__(self, below: Memory, dest: Term, source: Term, length: Term, origin: Memory):
        super().__init__()
        self.below, self.dest, self.source, self.length, self.origin = below, dest, source, length, origin

    def _read(self, address: Term) -> Term:
        if constant(self.length) == 0:
            return self.below.read(address)
        offset = difference(address, self.dest)
        copied = self.origin.read(self.source + offset)
        return If(ult(offset, self.length), copied, self.below.read(address))


def cases(memory: Memory, address: Term) -> list[tuple[str, tuple[tuple[str, Formula], ...], Term]]:
    """Return the query for what ``memory`` holds at ``address``, split into one case for each store.

    Each case is a label, its facts, and the address to read: that of the store, so
    that most of the answer folds away, or ``address`` where no store hit it. Together
    the cases cover every address.
    """
    stored: list[Term] = []
    while isinstance(memory, Written):
        stored.append(memory.address)
        memory = memory.below
    if not stored:
        return [("at any word", (), address)]
    missed = tuple(("no store of this iteration hits the word", address != other) for other in stored)
    hits = [(f"at the word of store {len(stored) - i}", (), other) for i, other in enumerate(stored)]
    return [*reversed(hits), ("at any other word", missed, address)]
