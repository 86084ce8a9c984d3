"""Proof obligations: what must hold for a property, one formula each."""

from __future__ import annotations

from dataclasses import dataclass, field

from kexec_verify.arm64.state import Access, Event, State
from kexec_verify.logic import And, Formula, Not

type Facts = tuple[tuple[str, Formula], ...]


@dataclass(frozen=True)
class Obligation:
    """A proof obligation: the hypotheses must imply the goal.

    :param name: stable kebab-case identifier; several obligations of one kind share it.
    :param sentence: the goal in words.
    :param at: address of the instruction that it is about, or None.
    :param path: addresses executed, for the reader.
    :param fault: what a run that refutes it does, in words; empty where values say it.
    :param subject: the access, event or state at a path's end that it is about, if it is about one.
    """

    name: str
    sentence: str
    hypotheses: Facts
    goal: Formula
    at: int | None = None
    path: tuple[int, ...] = field(default=(), repr=False)
    fault: str = ""
    subject: Access | Event | State | None = field(default=None, repr=False, compare=False)


def unreached(
    name: str, sentence: str, fault: str, facts: Facts, further: Facts, at: int, subject: Event | State
) -> Obligation:
    """Return the obligation that a path is not taken, for what it ends at.

    The negated branch conditions are its goal: as hypotheses they would contradict the others.

    Its branch conditions are the goal, negated: as hypotheses they would contradict the others.

    :param facts: what holds on the path; ``further``: what is assumed in addition.
    """
    branches = [fact for label, fact in facts if label.startswith("branch ")]
    others = tuple(fact for fact in facts if not fact[0].startswith("branch "))
    goal = Not(And(*branches))
    return Obligation(name, sentence, (*others, *further), goal, at, fault=fault, subject=subject)
