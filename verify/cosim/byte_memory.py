"""Memory of bytes, for co-simulating sub-word loads and stores of single instructions.

The routine's memory is made of words and refuses accesses to parts of them on purpose. Here every address has
a byte, and accesses may have any size and address.
"""

from __future__ import annotations

from kexec_verify.logic import Function, If, Term, const, difference, normal
from kexec_verify.memory import WORD_BYTES, Memory

BYTES = "bytes"


class Bytes(Memory):
    """Bytes of which nothing is known: a function of the address."""

    words = False

    def byte(self, address: Term) -> Term:
        """Return the byte at ``address``."""
        return Function(BYTES, 8)(address)

    def _read(self, address: Term) -> Term:
        return self.load(address, WORD_BYTES)

    def load(self, address: Term, size: int) -> Term:
        """Return the ``size`` bytes at ``address``, little-endian."""
        first, *others = [self.byte(normal(address + i)) for i in reversed(range(size))]
        return first.concat(*others) if others else first

    def store(self, address: Term, value: Term) -> Memory:
        """Return this memory after a store of as many bytes as ``value`` is wide."""
        return _Stored(self, normal(address), value)


class _Stored(Bytes):
    """``below`` after one store."""

    def __init__(self, below: Bytes, address: Term, value: Term):
        super().__init__()
        self.below, self.address, self.value = below, address, value

    def byte(self, address: Term) -> Term:
        size = self.value.length // 8
        offset = difference(address, self.address)
        found = self.below.byte(address)
        for i in range(size):
            found = If(offset == const(i), self.value[8 * i + 7 : 8 * i], found)
        return found
