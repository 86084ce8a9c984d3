"""From what kexec_core's functions do to the list that is read: W1 to W3, and W7 of the list pages.

No bytes are looked at here. The list is the one that ``specs/image_builder.py`` describes, once
kimage_terminate has ended it; the words and places are those that the list machine reads in the linear map.
"""

from __future__ import annotations

from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.list_code import WORD, any_segment, pages
from kexec_verify.logic import And, Formula, Function, Implies, Not, aligned, const, ule, ult, var
from kexec_verify.obligation import Facts, Obligation
from kexec_verify.specs.image_builder import ListBuilder, Pages, Segment
from kexec_verify.specs.kimage import IND_DONE, IND_INDIRECTION, WellFormed, has, one_flag
from kexec_verify.specs.linear_list import LinearList

NAME = "the list"
"""What there is instead of a function's name."""


def chain(context: KexecContext) -> list[Obligation]:
    """Return the obligations for one kernel's pages.

    :raises UnsupportedError: if its pages are not known.
    """
    return build(pages(context), any_segment())


def build(given: Pages, segment: Segment) -> list[Obligation]:
    """Return the obligations, for any memory and any length of the list."""
    length, kimage, head = var("k"), var("kimage"), var("head")
    page, rank, words = Function("page"), Function("rank"), Function("words")
    list_ = ListBuilder(given, kimage, head, kimage, kimage, words, length, page, rank, segment)
    read = LinearList(list_.word, list_.ptr, length, kimage, given.addresses, given.page_size)
    formed = WellFormed(list_.word, list_.ptr, Function("dest"), Function("source"), length, given.page_size)
    i = WORD
    ended: Facts = (
        ("memstart-aligned", aligned(given.addresses.memstart_addr, given.page_size)),
        ("kimage_terminate has ended the list", list_.word(length) == IND_DONE),
        ("I2", list_.shape(i)),
    )
    own = ("I3 of its page", list_.list_page(list_.rank_of(i)))
    exists = ("the list has the word", ule(i, length))
    found = []

    def require(kind: str, sentence: str, goal: Formula, *further: tuple[str, Formula]) -> None:
        found.append(Obligation(f"list-chain-{kind}", sentence, (*ended, *further), goal))

    require("starts", "word 0 is kimage->head", read.starts(head))
    before = ("a word follows", ult(i, length))
    require(
        "follows",
        "each word is followed by the one that the list machine reads",
        read.follows(i),
        before,
    )
    heads = And(Implies(length == 0, head == IND_DONE), Implies(length != 0, has(head, IND_INDIRECTION)))
    require(
        "head",
        "the head is exactly DONE, or an INDIRECTION (W1)",
        heads,
        ("I2 of the head", list_.shape(const(0))),
    )
    require("one-flag", "each word has exactly one flag (W2)", one_flag(list_.word(i)), exists)
    require("finite", "DONE is the last word and no other (W3)", formed.W3(i), exists)
    place = given.address(page(list_.rank_of(i)))
    outside = And(formed.page(list_.ptr(i)) == place, Not(segment.has(given, page(list_.rank_of(i)))))
    further = (own, exists, ("not the head", i != 0))
    require("apart", "each word after the head is in a page that no segment has (W7)", outside, *further)
    return found
