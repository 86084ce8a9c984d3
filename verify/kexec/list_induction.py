"""Prove T3 and T4 of the list machine by induction over the entries of a well-formed list.

The machine runs on the memory M that its copies change; the list is what it would read from M0, the memory
as built. Ghost functions of a page say what happened to it so far: written(p), the index of the word that
caused it, and the page it was copied from. The invariant is stated at arbitrary addresses, and every
hypothesis is an instance at the few terms that occur, so there are no quantifiers.

The machine runs on the memory M that its copies change; the list is what it would read
from M0, the memory as built. Ghost functions of a page say what happened to it so far:
written(p), the index of the word that did it, and the page it came from. The invariant
is stated at arbitrary addresses, and every hypothesis is an instance at the few terms
in play, so nothing here has a quantifier.

    M(a) = M0(from(p) + offset(a)) if written(p), else M0(a)              (contents)
    written(p) -> index(p) < n, word index(p) is a SOURCE with dest p     (history)
    i < n and word i is a SOURCE -> written(dest(i))                      (complete)
"""

from __future__ import annotations

from dataclasses import dataclass

from kexec_verify.logic import (
    And,
    Formula,
    Function,
    If,
    Implies,
    Not,
    Term,
    const,
    ule,
    ult,
    var,
)
from kexec_verify.obligation import Facts, Obligation
from kexec_verify.specs.kimage import IND_SOURCE, WellFormed, has

_WORDS = 1 << 61  # words of 8 bytes in 2^64 bytes: an acyclic chain has no more


@dataclass(frozen=True)
class _Ghost:
    """What happened to pages before word ``n``, as functions of a page's first address."""

    written: Function
    index: Function
    origin: Function


class _Induction:
    def __init__(self, page_size: int):
        self.page_size = page_size
        self.n, self.last = var("n"), var("last")
        self.list = WellFormed(
            Function("word"), Function("ptr"), Function("dest"), Function("source"), self.last, page_size
        )
        self.ghost = _Ghost(Function("written", 1), Function("index"), Function("from"))
        self.before, self.built = Function("M"), Function("M0")

    def offset(self, address: Term) -> Term:
        return address & (self.page_size - 1)

    def was_written(self, page: Term) -> Formula:
        return self.ghost.written(page) == 1

    def contents(self, address: Term) -> Formula:
        """The invariant on the word at ``address``."""
        page = self.list.page(address)
        moved = self.built(self.ghost.origin(page) + self.offset(address))
        return self.before(address) == If(self.was_written(page), moved, self.built(address))

    def history(self, page: Term) -> Formula:
        """The invariant on the ghost functions at ``page``."""
        index = self.ghost.index(page)
        return Implies(
            self.was_written(page),
            And(
                ult(index, self.n),
                self.list.copies(index),
                self.list.dest(index) == page,
                self.ghost.origin(page) == self.list.source(index),
            ),
        )

    # The state after the SOURCE word n

    def written_after(self, page: Term) -> Formula:
        return If(page == self.list.dest(self.n), const(1, 1), self.ghost.written(page)) == 1

    def index_after(self, page: Term) -> Term:
        return If(page == self.list.dest(self.n), self.n, self.ghost.index(page))

    def origin_after(self, page: Term) -> Term:
        return If(page == self.list.dest(self.n), self.list.source(self.n), self.ghost.origin(page))

    def memory_after(self, address: Term) -> Term:
        page = self.list.page(address)
        copied = self.before(self.list.source(self.n) + self.offset(address))
        return If(page == self.list.dest(self.n), copied, self.before(address))


def build(page_size: int) -> list[Obligation]:
    """Return the obligations of the induction, for pages of ``page_size`` bytes."""
    proof = _Induction(page_size)
    spec, ghost, n, last = proof.list, proof.ghost, proof.n, proof.last
    address, i = var("a"), var("i")
    page, source, dest = spec.page(address), spec.source(n), spec.dest(n)
    required: list[Obligation] = []

    def require(name: str, sentence: str, hypotheses: Facts, goal: Formula) -> None:
        required.append(Obligation(f"reloc-{name}", sentence, hypotheses, goal))

    finite: Facts = (
        ("list-well-formed", ult(last, const(_WORDS))),
        ("the machine is at word n", ult(n, last)),
    )
    copy: Facts = (*finite, ("word n is a SOURCE", spec.copies(n)), ("list-well-formed", spec.W4(n)))
    here = ("contents at the address", proof.contents(address))
    past = ("history of its page", proof.history(page))

    mirrored = source + proof.offset(address)
    paged = And(spec.page(mirrored) == source, proof.offset(mirrored) == proof.offset(address))
    require(
        "dest-pages-offset",
        "a word of the source page has the page and offset that it is computed from",
        copy,
        paged,
    )
    for label, case, extra in (
        (
            "in the page that a SOURCE word writes",
            page == dest,
            (
                ("proved: page and offset of the word copied", paged),
                ("contents at the word copied", proof.contents(mirrored)),
                ("history of the source page", proof.history(source)),
                ("list-well-formed", spec.W6(n, ghost.index(source))),
                ("list-well-formed", spec.W5(ghost.index(source), n)),
            ),
        ),
        ("in a page that a SOURCE word leaves alone", page != dest, ()),
    ):
        require(
            "dest-pages-contents",
            f"after a SOURCE word each word {label} is that of the page it came from, as built",
            (*copy, here, past, *extra, ("case", case)),
            proof.memory_after(address)
            == If(
                proof.written_after(page),
                proof.built(proof.origin_after(page) + proof.offset(address)),
                proof.built(address),
            ),
        )
    index = proof.index_after(page)
    require(
        "dest-pages-history",
        "after a SOURCE word the record of any page names the word that wrote it",
        (*copy, past),
        Implies(
            proof.written_after(page),
            And(
                ult(index, n + 1),
                spec.copies(index),
                spec.dest(index) == page,
                proof.origin_after(page) == spec.source(index),
            ),
        ),
    )
    complete = Implies(And(ult(i, n), spec.copies(i)), proof.was_written(spec.dest(i)))
    require(
        "dest-pages-complete",
        "after a SOURCE word the destination of every word so far is written",
        (*copy, ("complete so far", complete)),
        Implies(And(ult(i, n + 1), spec.copies(i)), proof.written_after(spec.dest(i))),
    )
    require(
        "dest-pages-complete",
        "after any other word the destination of every word so far is written",
        (*finite, ("word n is no SOURCE", Not(has(spec.word(n), IND_SOURCE))), ("complete so far", complete)),
        Implies(And(ult(i, n + 1), spec.copies(i)), proof.was_written(spec.dest(i))),
    )
    following = spec.ptr(n + 1)
    listed = spec.page(following)
    intact: Facts = (
        ("contents at the next word", proof.contents(following)),
        ("history of its page", proof.history(listed)),
        ("list-well-formed", spec.W7(n + 1, ghost.index(listed))),
        ("list-well-formed", spec.W7(n + 1, n)),
    )
    require(
        "dest-pages-list-intact",
        "after a SOURCE word the next word of the list is still as built",
        (*copy, *intact),
        proof.memory_after(following) == proof.built(following),
    )
    require(
        "dest-pages-list-intact",
        "after any other word the next word of the list is still as built",
        (*finite, *intact),
        proof.before(following) == proof.built(following),
    )
    require(
        "dest-pages-init",
        "before the first word no page is written and memory is as built",
        (
            ("nothing is written", Not(proof.was_written(page))),
            ("memory is as built", proof.before(address) == proof.built(address)),
        ),
        And(proof.contents(address), proof.history(page)),
    )
    exit_facts: Facts = (
        ("the machine is at DONE", n == last),
        ("list-well-formed", ult(last, const(_WORDS))),
    )
    target = spec.dest(i) + proof.offset(address)
    targeted = And(spec.page(target) == spec.dest(i), proof.offset(target) == proof.offset(address))
    whole: Facts = (("word i is a SOURCE", spec.copies(i)), ("list-well-formed", spec.W4(i)))
    require(
        "dest-pages-offset",
        "a word of a destination page has the page and offset that it is computed from",
        whole,
        targeted,
    )
    require(
        "dest-pages-exit",
        "at DONE every destination page holds what its source page held at entry",
        (
            *exit_facts,
            *whole,
            ("proved: page and offset of the word", targeted),
            ("complete so far", complete),
            ("history of the destination", proof.history(spec.dest(i))),
            ("contents of the destination", proof.contents(target)),
            ("list-well-formed", spec.W5(ghost.index(spec.dest(i)), i)),
        ),
        proof.before(target) == proof.built(spec.source(i) + proof.offset(address)),
    )
    require(
        "dest-pages-frame",
        "at DONE every word outside the destination pages is what it was at entry",
        (
            *exit_facts,
            here,
            past,
            (
                "the page is no destination",
                Implies(spec.copies(ghost.index(page)), spec.dest(ghost.index(page)) != page),
            ),
        ),
        proof.before(address) == proof.built(address),
    )
    require(
        "terminates-list",
        "a word without IND_DONE is not the last, and the number of words left falls by one",
        (
            ("list-well-formed", ult(last, const(_WORDS))),
            ("the machine is at word n", ule(n, last)),
            ("list-well-formed", spec.W3(n)),
            ("the loop goes on", Not(has(spec.word(n), 4))),
        ),
        And(ult(n, last), ule(n + 1, last), ult(last - (n + 1), last - n)),
    )
    require(
        "terminates-list",
        "the loop is left at the word DONE",
        (("list-well-formed", spec.W3(n)), ("the machine is at DONE", n == last)),
        has(spec.word(n), 4),
    )
    return required
