"""Obligations: what must hold for a claim, one question each."""

from __future__ import annotations

from dataclasses import dataclass, field

from verify.arm64.state import Access, Event
from verify.logic import Formula

type Facts = tuple[tuple[str, Formula], ...]


@dataclass(frozen=True)
class Obligation:
    """One question: do the hypotheses imply the goal?

    :param name: stable kebab-case identifier; several obligations of one kind share it.
    :param sentence: the goal in words.
    :param at: address of the instruction that it is about, or None.
    :param path: addresses executed, for the reader.
    :param subject: the access or event that it is about, if it is about one.
    """

    name: str
    sentence: str
    hypotheses: Facts
    goal: Formula
    at: int | None = None
    path: tuple[int, ...] = field(default=(), repr=False)
    subject: Access | Event | None = field(default=None, repr=False, compare=False)
