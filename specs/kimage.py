"""The indirection list and struct kimage, as kernel/kexec_core.c builds them.

Sources: include/linux/kexec.h (IND_* flags, struct kimage), kernel/kexec_core.c
(kimage_add_entry, kimage_load_segment), arch/arm64/include/asm/kexec.h (struct
kimage_arch).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kexec_verify.logic import And, Formula, Implies, Not, Or, Term, aligned, ule, ult

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
    """Byte offsets in struct kimage; the fields of struct kimage_arch follow ``arch`` in this order.

    :param has_arch: there are such fields; before 5.12 only with CONFIG_KEXEC_FILE.
    """

    arch: int
    head: int = 0
    start: int = 24
    control_code_page: int = 32
    nr_segments: int = 56
    segment: int = 64
    has_arch: bool = True
    entry: int = 8
    last_entry: int = 16

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
    def named(self) -> frozenset[int]:
        """Offsets of the 64-bit words that are fields named here; others hold lists of pages and flags."""
        generic = (self.head, self.start, self.control_code_page, self.nr_segments)
        segments = range(self.segment, self.segment + KEXEC_SEGMENT_MAX * SEGMENT_BYTES, 8)
        return frozenset((*generic, *segments, *range(self.arch, self.size, 8)))

    @property
    def others(self) -> tuple[int, ...]:
        """Offsets of the other 64-bit words."""
        return tuple(at for at in range(0, self.size, 8) if at not in self.named)

    @property
    def size(self) -> int:
        """Bytes up to the end of the last field that the routine may read."""
        return self.arch + 64 if self.has_arch else self.arch


KEXEC_SEGMENT_MAX = 16
KEXEC_CONTROL_PAGE_SIZE = 4096
"""Bytes of the control page that the routine may take (arch/arm64/include/asm/kexec.h)."""
SEGMENT_BYTES, SEGMENT_MEM, SEGMENT_MEMSZ = 32, 16, 24
"""struct kexec_segment (include/linux/kexec.h): size in bytes, and offsets of ``mem`` and ``memsz``."""


def one_flag(entry: Term) -> Formula:
    """W2: exactly one flag is set in the word ``entry``."""
    flags = entry & IND_FLAGS
    return Or(*(flags == flag for flag in (IND_DESTINATION, IND_INDIRECTION, IND_DONE, IND_SOURCE)))


type Sequence = Callable[[Term], Term]
"""A function of a word's index in the list (64 bits)."""


@dataclass(frozen=True)
class WellFormed:
    """Conditions that kexec_core guarantees for a list, each instantiated at given terms.

    The list is the sequence of words that the list machine executes on the memory as it
    was built: word ``i`` is located at address ``ptr(i)``, DONE is word ``last``; ``dest(i)``
    is the destination when word ``i`` is executed and ``source(i)`` the page it names.
    Addresses are those at which the routine sees the pages.
    """

    word: Sequence
    ptr: Sequence
    dest: Sequence
    source: Sequence
    last: Term
    page_size: int

    def exists(self, i: Term) -> Formula:
        """The list has a word ``i``."""
        return ule(i, self.last)

    def copies(self, i: Term) -> Formula:
        """Word ``i`` is a SOURCE."""
        return And(ult(i, self.last), has(self.word(i), IND_SOURCE))

    def page(self, address: Term) -> Term:
        """First address of the page that holds ``address``."""
        return address & ~(self.page_size - 1)

    def W3(self, i: Term) -> Formula:
        """The chain is finite: DONE is the last word and no other."""
        return And(
            Implies(ult(i, self.last), Not(has(self.word(i), IND_DONE))),
            Implies(i == self.last, has(self.word(i), IND_DONE)),
        )

    def W4(self, i: Term) -> Formula:
        """A SOURCE copies a whole page to a whole page."""
        whole = And(aligned(self.dest(i), self.page_size), aligned(self.source(i), self.page_size))
        return Implies(self.copies(i), whole)

    def W5(self, i: Term, j: Term) -> Formula:
        """Different SOURCE words have different destinations."""
        return Implies(And(self.copies(i), self.copies(j), self.dest(i) == self.dest(j)), i == j)

    def W6(self, i: Term, j: Term) -> Formula:
        """A source page is its own destination, or no word's destination."""
        hit = And(self.copies(i), self.copies(j), self.source(i) == self.dest(j))
        return Implies(hit, self.source(i) == self.dest(i))

    def W7(self, i: Term, j: Term) -> Formula:
        """No word of the list is located in a destination page."""
        return Implies(And(self.exists(i), self.copies(j)), self.page(self.ptr(i)) != self.dest(j))
