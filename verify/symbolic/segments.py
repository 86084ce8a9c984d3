"""What was explored between two cutpoints, kept so that whole paths can be put together of it."""

from __future__ import annotations

from dataclasses import dataclass

from kexec_verify.arm64.execute import Step
from kexec_verify.arm64.state import State


@dataclass(frozen=True)
class Segment:
    """Every path from one cutpoint to the next ones, or out of the function.

    :param at: address of the cutpoint.
    :param start: the state there, one for all ways to it.
    :param bound: states in which variables named after a tag stand for what an arrival has: the state
        and the tag. The first is bound by the first arrival alone, the last by every arrival.
    :param turns: variable that counts the turns of the loop whose head the cutpoint is.
    :param guessed: labels of facts that say nothing new of a real run: proved invariants.
    """

    at: int
    start: State
    ends: tuple[Step, ...]
    bound: tuple[tuple[State, str], ...] = ()
    iterations: str | None = None
    guessed: frozenset[str] = frozenset()
