"""The list of a kimage under construction, as kernel/kexec_core.c keeps it from word to word.

A list page has N words of 8 bytes. The kernel fills them in order and chains a new page in its last word:

    struct kimage     list page 0                       list page 1
    head: word 0 ───▶ word 1 │ word 2 │ … │ word N ───▶ word N + 1 │ … │ word k = 0 │ … │ last │
    INDIRECTION                         INDIRECTION                      ▲ entry          ▲ last_entry

So the place of word i is known from i alone, and no statement here speaks of what can be reached. Each
method is an invariant or a place at the terms that are given; k is the number of words before the first that
is free. Source: kernel/kexec_core.c (do_kimage_alloc_init, kimage_add_entry, kimage_terminate).
"""

from __future__ import annotations

from dataclasses import dataclass

from kexec_verify.logic import And, Formula, If, Implies, Not, Or, Term, const, shift_right, ule, ult
from kexec_verify.specs.address_map import STRUCT_PAGE_SHIFT, AddressMap
from kexec_verify.specs.kimage import (
    IND_DESTINATION,
    IND_DONE,
    IND_INDIRECTION,
    IND_SOURCE,
    Sequence,
)

WORD_BYTES = 8
ENOMEM = 12
GFP_ZERO = 1 << 8  # __GFP_ZERO (include/linux/gfp_types.h): the allocator gives memory that is zero
NO_DESTINATION = -1  # KIMAGE_NO_DEST: kimage_alloc_page is asked for a page that is no destination


@dataclass(frozen=True)
class Pages:
    """The pages of the linear map, by their numbers from its start.

    :param first: address of the struct page of page 0.
    """

    addresses: AddressMap
    page_size: int
    first: int

    @property
    def count(self) -> int:
        """How many pages the linear map has room for."""
        return (self.addresses.page_end - self.addresses.page_offset) // self.page_size

    @property
    def words(self) -> int:
        """N: how many words a page has."""
        return self.page_size // WORD_BYTES

    @property
    def shift(self) -> int:
        """PAGE_SHIFT."""
        return self.page_size.bit_length() - 1

    def exists(self, page: Term) -> Formula:
        """``page`` is the number of a page."""
        return ult(page, const(self.count))

    def address(self, page: Term) -> Term:
        """The page's address in the linear map."""
        return self.addresses.page_offset + (page << self.shift)

    def physical(self, page: Term) -> Term:
        """The page's physical address."""
        return self.addresses.memstart_addr + (page << self.shift)

    def struct_page(self, page: Term) -> Term:
        """The address of the page's struct page."""
        return self.first + (page << STRUCT_PAGE_SHIFT)


@dataclass(frozen=True)
class Segment:
    """Any one segment of the image: first physical address, and bytes of memory."""

    mem: Term
    memsz: Term

    def has(self, pages: Pages, page: Term) -> Formula:
        """The page overlaps the segment."""
        start = pages.physical(page)
        return And(ult(self.mem, start + pages.page_size), ult(start, self.mem + self.memsz))


@dataclass(frozen=True)
class ListBuilder:
    """One moment of the construction.

    :param kimage: address of struct kimage; ``head``, ``entry``, ``last_entry``: its fields.
    :param read: the word at an address of the linear map.
    :param length: k.
    :param page: the number of the list page of a rank: 0, 1, 2 …
    :param rank: the inverse: the rank of a list page. Since it is a function, list pages are distinct.
    :param segment: any segment of the image.
    """

    pages: Pages
    kimage: Term
    head: Term
    entry: Term
    last_entry: Term
    read: Sequence
    length: Term
    page: Sequence
    rank: Sequence
    segment: Segment

    # Places

    def rank_of(self, i: Term) -> Term:
        """The rank of the page that has word ``i``, which is not the head."""
        return shift_right(i - 1, const(self.pages.words.bit_length() - 1))

    def named_by(self, i: Term) -> Term:
        """The rank of the page that word ``i``, an INDIRECTION, names."""
        return shift_right(i, const(self.pages.words.bit_length() - 1))

    def chains(self, i: Term) -> Formula:
        """Word ``i`` is the head or a page's last word."""
        return (i & (self.pages.words - 1)) == 0

    def slot(self, i: Term) -> Term:
        """Address of word ``i``, which is not the head."""
        offset = ((i - 1) & (self.pages.words - 1)) * WORD_BYTES
        return self.pages.address(self.page(self.rank_of(i))) + offset

    def ptr(self, i: Term) -> Term:
        """Address of word ``i``; kimage->head is struct kimage's first field."""
        return If(i == 0, self.kimage, self.slot(i))

    def word(self, i: Term) -> Term:
        """Word ``i``."""
        return If(i == 0, self.head, self.read(self.slot(i)))

    # Invariants

    def counted(self) -> Formula:
        """I1: a list is empty or its head names a page; a page is chained only for a word that follows."""
        begun = And(
            ule(const(2), self.length),
            (self.length & (self.pages.words - 1)) != 1,
            ult(self.rank_of(self.length), const(self.pages.count)),
        )
        return Or(self.length == 0, begun)

    def cursor(self) -> Formula:
        """I1: entry is the place of word k, which is 0, and last_entry its page's last word.

        Both name the head of an empty list.
        """
        last = self.pages.address(self.page(self.rank_of(self.length))) + self.pages.page_size - WORD_BYTES
        return And(
            self.counted(),
            self.entry == self.ptr(self.length),
            self.last_entry == If(self.length == 0, self.kimage, last),
            self.word(self.length) == 0,
        )

    def has_word(self, i: Term) -> Formula:
        """The list has a word ``i``."""
        return ult(i, self.length)

    def shape(self, i: Term) -> Formula:
        """I2: word ``i`` is the INDIRECTION to the next list page, or else a DESTINATION or a SOURCE."""
        next_page = self.pages.physical(self.page(self.named_by(i)))
        chained = self.word(i) == (next_page | IND_INDIRECTION)
        return Implies(
            self.has_word(i),
            And(Implies(self.chains(i), chained), Implies(Not(self.chains(i)), self.is_page(self.word(i)))),
        )

    def list_page(self, j: Term) -> Formula:
        """I3: each list page is a page of the linear map, and no other list page; I4: it is in no segment."""
        page = self.page(j)
        holds = And(self.pages.exists(page), self.rank(page) == j, Not(self.segment.has(self.pages, page)))
        return Implies(And(self.length != 0, ule(j, self.rank_of(self.length))), holds)

    # What the functions are given, and what they do

    def is_page(self, word: Term) -> Formula:
        """``word`` is a page's address with the flag of a DESTINATION or of a SOURCE, and no other bit."""
        low = word & (self.pages.page_size - 1)
        return Or(low == IND_DESTINATION, low == IND_SOURCE)

    def is_listed(self, page: Term) -> Formula:
        """``page`` is a list page."""
        rank = self.rank(page)
        return And(self.length != 0, ule(rank, self.rank_of(self.length)), self.page(rank) == page)

    def is_free(self, page: Term) -> Formula:
        """``page`` may become a list page: one more list page is no more than there are pages."""
        more = Or(self.length == 0, ult(self.rank_of(self.length) + 1, const(self.pages.count)))
        apart = Not(self.segment.has(self.pages, page))
        return And(self.pages.exists(page), Not(self.is_listed(page)), apart, more)

    def length_after(self) -> Term:
        """The length with one more word: where a page is full, the next one is chained first."""
        return self.length + If(self.chains(self.length), const(2), const(1))

    def appended(self, after: ListBuilder, word: Term, i: Term) -> Formula:
        """The list ``after`` is this one with ``word`` at its end; ``i`` is any word of this one."""
        kept = And(after.ptr(i) == self.ptr(i), after.word(i) == self.word(i))
        return And(
            after.length == self.length_after(),
            after.word(after.length - 1) == word,
            Implies(self.has_word(i), kept),
        )

    def terminated(self, after: ListBuilder, i: Term) -> Formula:
        """The list ``after`` is this one with DONE at its end; ``i`` is any word of this one."""
        kept = And(after.ptr(i) == self.ptr(i), after.word(i) == self.word(i))
        return And(
            after.length == self.length,
            after.word(after.length) == IND_DONE,
            Implies(self.has_word(i), kept),
        )
