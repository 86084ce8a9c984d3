"""The indirection list and struct kimage, as kernel/kexec_core.c builds them.

Sources: include/linux/kexec.h (IND_* flags, struct kimage), kernel/kexec_core.c
(kimage_add_entry, kimage_load_segment), arch/arm64/include/asm/kexec.h (struct
kimage_arch).
"""

from __future__ import annotations

from dataclasses import dataclass

from verify.logic import And, Formula, Implies, Not, Or, Term, aligned, ult

IND_DESTINATION = 1 << 0
IND_INDIRECTION = 1 << 1
IND_DONE = 1 << 2
IND_SOURCE = 1 << 3
IND_FLAGS = IND_DESTINATION | IND_INDIRECTION | IND_DONE | IND_SOURCE


def has(entry: Term, flag: int) -> Formula:
    """``flag`` is set in the word ``entry``."""
    return (entry & flag) == flag


@dataclass(frozen=True)
class KimageLayout:
    """Byte offsets in struct kimage; the fields of struct kimage_arch follow ``arch`` in this order."""

    arch: int
    head: int = 0
    start: int = 24

    @property
    def dtb_mem(self) -> int:
        return self.arch

    @property
    def kern_reloc(self) -> int:
        return self.arch + 8

    @property
    def el2_vectors(self) -> int:
        return self.arch + 16

    @property
    def ttbr0(self) -> int:
        return self.arch + 24

    @property
    def ttbr1(self) -> int:
        return self.arch + 32

    @property
    def zero_page(self) -> int:
        return self.arch + 40

    @property
    def phys_offset(self) -> int:
        return self.arch + 48

    @property
    def t0sz(self) -> int:
        return self.arch + 56

    @property
    def size(self) -> int:
        """Bytes up to the end of the last field that the routine may read."""
        return self.arch + 64


@dataclass(frozen=True)
class WellFormed:
    """What kexec_core promises of a list, each promise at the terms that are asked about.

    The list is the sequence of words that the list machine executes on the memory as it
    was built: ``word(i)`` for i = 0 … ``last``, with ``dest(i)`` the destination at that
    moment and ``ptr(i)`` the address of the word itself. Addresses are those at which
    the routine sees the pages.
    """

    word: object
    dest: object
    ptr: object
    source: object
    last: Term
    page_size: int

    def copies(self, i: Term) -> Formula:
        """Word ``i`` is executed and is a SOURCE."""
        return And(ult(i, self.last), has(self.word(i), IND_SOURCE))

    def page(self, address: Term) -> Term:
        """First address of the page that holds ``address``."""
        return address & ~(self.page_size - 1)

    def W2(self, i: Term) -> Formula:
        """Exactly one flag; the bits between the flags and the page address are 0; DONE is exactly 4."""
        entry = self.word(i)
        low = entry & (self.page_size - 1)
        flags = Or(low == IND_DESTINATION, low == IND_INDIRECTION, low == IND_SOURCE)
        return Or(flags, entry == IND_DONE)

    def W3(self, i: Term) -> Formula:
        """The chain is finite: DONE is the last word and no other."""
        return Implies(ult(i, self.last), Not(has(self.word(i), IND_DONE)))

    def W3_last(self) -> Formula:
        """The last word is DONE."""
        return has(self.word(self.last), IND_DONE)

    def W5(self, i: Term, j: Term) -> Formula:
        """Destinations of different SOURCE words are different pages."""
        return Implies(And(self.copies(i), self.copies(j), self.dest(i) == self.dest(j)), i == j)

    def W6(self, i: Term, j: Term) -> Formula:
        """A source is its own destination or is no word's destination."""
        return Implies(
            And(self.copies(i), self.copies(j), self.source(i) == self.dest(j)),
            self.source(i) == self.dest(i),
        )

    def W7(self, i: Term, j: Term) -> Formula:
        """No page of the list is a destination."""
        return Implies(And(ule_last(i, self.last), self.copies(j)), self.page(self.ptr(i)) != self.dest(j))

    def pages_aligned(self, i: Term) -> Formula:
        """Sources and destinations are whole pages."""
        return Implies(
            self.copies(i),
            And(aligned(self.dest(i), self.page_size), aligned(self.source(i), self.page_size)),
        )


def ule_last(i: Term, last: Term) -> Formula:
    """Word ``i`` exists."""
    return Not(ult(last, i))
