"""Lemmas on cache lines, which spare the solvers the arithmetic of masked addresses.

Maintenance by line compares first addresses of lines, which are masked addresses. The lemmas say where a
loop's first and last lines are, and how far the line of a word is from the first. Each lemma is proved.
With them a query contains distances only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from kexec_verify.arm64 import cache
from kexec_verify.logic import And, Formula, Implies, Term, const, normal, ule, var
from kexec_verify.logic import replace as substitute
from kexec_verify.obligation import Facts, Obligation
from kexec_verify.symbolic.explore import ANYWHERE, Decide
from kexec_verify.symbolic.loops import Entered

SUMS = "sums that do not wrap keep order"


def sums(first: Term, distance: Term, progress: Term) -> Formula:
    """If neither sum wraps, the greater one has the greater distance; true of any three words."""
    orders = (ule(first, first + distance), ule(first, first + progress))
    premise = And(*orders, ule(first + distance, first + progress))
    return Implies(premise, ule(distance, progress))


def lemma_on_sums() -> Obligation:
    """Return the obligation that the lemma ``sums`` holds for any three words."""
    return Obligation("contract-lemma", SUMS, (), sums(var("first"), var("distance"), var("progress")))


@dataclass(frozen=True)
class Lines:
    """The lines that one loop maintains.

    :param what: ``data`` or ``instruction``.
    """

    what: str
    loop: Entered

    @property
    def line(self) -> Callable[[Term], Term]:
        """Return a function from an address to the first address of its line."""
        return cache.line if self.what == "data" else cache.fetch_line

    @property
    def first(self) -> Term:
        """The address at which the loop's pointer starts."""
        assert self.loop.shape.maintained is not None
        return self.loop.shape.maintained[0].address(self.loop.entry)

    @property
    def last(self) -> Term:
        """The loop's pointer after the progress so far."""
        return normal(self.first + self.loop.progress)

    @property
    def distance(self) -> Term:
        """How far the line of the word at hand is from this loop's first line, in bytes."""
        return var(f"distance of the word's line@{self.loop.tag}")

    @property
    def places(self) -> Facts:
        """The pointer is at the start of a line, at first and now."""
        return (
            ("the loop's first line starts at its pointer", self.line(self.first) == self.first),
            ("the loop's line starts at its pointer", self.line(self.last) == self.last),
        )

    @property
    def bounds(self) -> Facts:
        """The word's line is not below the first, and not above the last."""
        return (
            ("its line is not below the loop's first", ule(self.first, self.line(ANYWHERE))),
            ("its line is not above the loop's last", ule(self.line(ANYWHERE), self.last)),
        )

    @property
    def distances(self) -> Facts:
        """Distances of lines from the first are whole numbers of lines."""
        size = self.line(const(-1))
        # line(-1) is the last line of memory: its complement is what masks an offset in a line.
        offset = (normal(self.line(ANYWHERE) - self.first)) & ~size
        return (("the word's line is whole lines from the first", offset == 0),)

    def in_distances(self, formula: Formula) -> Formula:
        """Return ``formula`` with lines replaced by the loop's pointer and by distances from its start."""
        line, first, last = self.line, self.first, self.last
        for old, new in ((line(last), last), (line(first), first), (line(ANYWHERE), first + self.distance)):
            formula = substitute(formula, old, new)
        return formula


def prove_in_distances(
    required: Obligation, lines: Iterable[Lines], decide: Decide, further: Callable[[Lines], Facts]
) -> Iterator[Obligation]:
    """Return ``required`` as lemmas on ``lines`` and one obligation on distances.

    :param further: more facts of a loop's lines that are lemmas to be proved as well.
    """
    facts, goal = required.hypotheses, required.goal
    for item in lines:
        lemmas = (*item.places, *item.distances, *further(item))
        if not all(decide(facts, formula) for _, formula in lemmas):
            continue
        for label, formula in lemmas:
            yield replace(required, sentence=f"{required.sentence}: {label}", goal=formula)
        stated = tuple((label, item.in_distances(formula)) for label, formula in lemmas)
        instance = sums(item.first, item.distance, item.loop.progress)
        facts = (*facts, *stated, (SUMS, instance))
        goal = item.in_distances(goal)
    yield replace(required, hypotheses=facts, goal=goal)
