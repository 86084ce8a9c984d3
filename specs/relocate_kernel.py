"""The list machine: what arm64_relocate_new_kernel does, one word of the list in each iteration.

Source: the flag tests of arch/arm64/kernel/relocate_kernel.S (SOURCE, then INDIRECTION,
then DESTINATION; a word with none of them is skipped).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Any

from kexec_verify.specs.kimage import IND_DESTINATION, IND_DONE, IND_INDIRECTION, IND_SOURCE

WORD_BYTES = 8


class Kind(enum.StrEnum):
    """What a word tells the machine to do; the first that matches, in this order."""

    SOURCE = "source"
    INDIRECTION = "indirection"
    DESTINATION = "destination"
    SKIP = "skip"


# kind -> (bits that the routine tests, their value)
TESTS = {
    Kind.SOURCE: (IND_SOURCE, IND_SOURCE),
    Kind.INDIRECTION: (IND_SOURCE | IND_INDIRECTION, IND_INDIRECTION),
    Kind.DESTINATION: (IND_SOURCE | IND_INDIRECTION | IND_DESTINATION, IND_DESTINATION),
    Kind.SKIP: (IND_SOURCE | IND_INDIRECTION | IND_DESTINATION, 0),
}


def is_kind(entry: Any, kind: Kind) -> Any:
    """``entry`` is a word of this kind."""
    mask, value = TESTS[kind]
    return (entry & mask) == value


@dataclass(frozen=True)
class ListMachine:
    """State before an iteration: the word ``entry``, the next word's address, the next destination page.

    Words, addresses and ``phys_offset`` are 64-bit; ``page_size`` is in bytes. ``memory``
    has ``read(address)`` and ``copy(dest, source, length)``. A page at physical address
    pa is seen at pa - phys_offset (0 where the MMU is off).
    """

    entry: Any
    ptr: Any
    dest: Any
    memory: Any
    page_size: int
    phys_offset: Any

    @property
    def addr(self) -> Any:
        """Where the routine sees the page that ``entry`` names."""
        return (self.entry & ~(self.page_size - 1)) - self.phys_offset

    def act(self, kind: Kind) -> ListMachine:
        """What the word does, before the next one is read."""
        match kind:
            case Kind.SOURCE:
                memory = self.memory.copy(self.dest, self.addr, self.page_size)
                return replace(self, memory=memory, dest=self.dest + self.page_size)
            case Kind.INDIRECTION:
                return replace(self, ptr=self.addr)
            case Kind.DESTINATION:
                return replace(self, dest=self.addr)
            case Kind.SKIP:
                return self

    def fetch(self) -> ListMachine:
        """Read the next word."""
        return replace(self, entry=self.memory.read(self.ptr), ptr=self.ptr + WORD_BYTES)

    def iteration(self, kind: Kind) -> ListMachine:
        """One iteration, for a word of this kind."""
        return self.act(kind).fetch()


def done(entry: Any) -> Any:
    """The machine stops before executing this word."""
    return (entry & IND_DONE) == IND_DONE
