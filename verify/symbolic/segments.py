"""The paths between two cutpoints, kept so that whole paths can be built from them."""

from __future__ import annotations

from dataclasses import dataclass

from kexec_verify.arm64.execute import Step
from kexec_verify.arm64.state import State


@dataclass(frozen=True)
class Segment:
    """Every path from one cutpoint to the next ones, or out of the function.

    :param at: address of the cutpoint.
    :param start: the state there, one for all paths to it.
    :param bound: states in which variables named after a tag represent an arrival's values: the state
        and the tag. The first is bound by the first arrival alone, the last by every arrival.
    :param iterations: variable that counts the iterations of the loop whose head the cutpoint is.
    :param guessed: labels of facts that every real run satisfies: proved invariants.
    """

    at: int
    start: State
    ends: tuple[Step, ...]
    bound: tuple[tuple[State, str], ...] = ()
    iterations: str | None = None
    guessed: frozenset[str] = frozenset()
