"""From what kexec_core's functions do to the list that is read: W1 to W3, and W7 of the list pages.

No bytes are looked at here. The list is the one that ``specs/image_builder.py`` describes, once
kimage_terminate has ended it; the words and places are those that the list machine reads in the linear map.
"""

from __future__ import annotations

from typing import override

from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.list_code import WORD, any_segment, pages
from kexec_verify.logic import And, Formula, Function, Implies, Not, Term, aligned, const, ule, ult, var
from kexec_verify.obligation import Facts, Obligation
from kexec_verify.specs.image_builder import ListBuilder, Pages, Segment
from kexec_verify.specs.kimage import IND_DONE, IND_INDIRECTION, WellFormed, has, one_flag
from kexec_verify.specs.linear_list import LinearList

NAME = "the list"
"""What there is instead of a function's name."""
_HEAD = const(0)


class _AnyWords(ListBuilder):
    """A list whose words are any: where they are read plays no part."""

    @override
    def word(self, i: Term) -> Term:
        return Function("word")(i)


def chain(context: KexecContext) -> list[Obligation]:
    """Return the obligations for one kernel's pages.

    :raises UnsupportedError: if its pages are not known.
    """
    return build(pages(context), any_segment())


def build(given: Pages, segment: Segment) -> list[Obligation]:
    """Return the obligations, for any memory and any length of the list."""
    i, length, kimage, head, page = WORD, var("k"), var("kimage"), var("head"), Function("page")
    parts = (given, kimage, head, kimage, kimage, Function("words"), length, page, Function("rank"), segment)
    list_, any_words = ListBuilder(*parts), _AnyWords(*parts)
    read = LinearList(list_.word, list_.ptr, length, kimage, given.addresses, given.page_size)
    formed = WellFormed(
        any_words.word, list_.ptr, Function("dest"), Function("source"), length, given.page_size
    )
    exists = ("the list has the word", ule(i, length))
    own = ("I3 of its page", list_.list_page(list_.rank_of(i)))
    heads = And(Implies(length == 0, head == IND_DONE), Implies(length != 0, has(head, IND_INDIRECTION)))
    place = given.address(page(list_.rank_of(i)))
    outside = And(formed.page(list_.ptr(i)) == place, Not(segment.has(given, page(list_.rank_of(i)))))

    def required(kind: str, sentence: str, goal: Formula, *facts: tuple[str, Formula]) -> Obligation:
        return Obligation(f"list-chain-{kind}", sentence, (*_settled(given), *facts), goal)

    follows = "each word is followed by the one that the list machine reads"
    before = ("a word follows", ult(i, length))
    chains = ("the head or a page's last word", list_.chains(i))
    stays = ("neither the head nor a page's last word", Not(list_.chains(i)))
    after_head = ("not the head", i != _HEAD)
    return [
        required("starts", "word 0 is kimage->head", read.starts(head)),
        required("follows", follows, read.follows(i), *_ended(list_, i), before, chains),
        required("follows", follows, read.follows(i), *_ended(list_, i), before, stays),
        required("head", "the head is exactly DONE, or an INDIRECTION (W1)", heads, *_ended(list_, _HEAD)),
        required(
            "one-flag",
            "each word has exactly one flag (W2)",
            one_flag(any_words.word(i)),
            *_ended(any_words, i),
            exists,
        ),
        required(
            "finite", "DONE is the last word and no other (W3)", formed.W3(i), *_ended(any_words, i), exists
        ),
        required(
            "apart",
            "each word after the head is in a page that no segment has (W7)",
            outside,
            own,
            exists,
            after_head,
        ),
    ]


def _settled(given: Pages) -> Facts:
    return (("memstart-aligned", aligned(given.addresses.memstart_addr, given.page_size)),)


def _ended(list_: ListBuilder, i: Term) -> Facts:
    """What is known of word ``i`` once kimage_terminate has ended the list."""
    done = Implies(i == list_.length, list_.word(i) == IND_DONE)
    return (("I2", list_.shape(i)), ("kimage_terminate has ended the list", done))
