"""Discharges obligations: a proof counts when z3 and bitwuzla both say unsat.

The hypotheses of each obligation are asked on their own as well: a goal that follows
from a contradiction is IDLE (a path that cannot be taken), and a kind of obligation of
which every instance is idle is VACUOUS.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from specs.assumptions import ASSUMPTIONS
from verify.errors import InternalError
from verify.logic import FALSE, Formula
from verify.obligation import Facts, Obligation
from verify.prove.smtlib import script
from verify.prove.solvers import TIME_LIMIT, Answer, Reply, ask_bitwuzla, ask_z3
from verify.verdict import Verdict

_FILTER_LIMIT = 10.0  # seconds of the clock, 20 times what any takes on an idle machine; then it is dropped


@dataclass(frozen=True)
class Result:
    """What came of one obligation.

    :param text: the SMT-LIB script that was asked.
    :param idle: its hypotheses contradict each other, so it says nothing by itself.
    :param contradicted: its assumptions do so already, whatever the code does.
    """

    obligation: Obligation
    verdict: Verdict
    text: str
    replies: tuple[Reply, ...]
    idle: bool
    contradicted: bool = False

    @property
    def used(self) -> tuple[str, ...]:
        """Labels of the hypotheses that the proof used (z3's unsat core)."""
        hypotheses = self.obligation.hypotheses
        cores = [reply.core for reply in self.replies if reply.core is not None]
        return tuple(hypotheses[i][0] for core in cores for i in core if i < len(hypotheses))

    @property
    def digest(self) -> str:
        """SHA-256 of the text, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def seconds(self) -> float:
        """Solver time."""
        return sum(reply.seconds for reply in self.replies)


def decide(hypotheses: Facts, goal: Formula) -> bool:
    """Whether the hypotheses imply the goal, to filter candidates; False where undecided."""
    if goal.is_true():
        return True
    return ask_bitwuzla(script(hypotheses, goal), _FILTER_LIMIT).answer is Answer.UNSAT


class Discharger:
    """Discharges obligations, asking each distinct question once."""

    def __init__(
        self,
        limit: float = TIME_LIMIT,
        progress: Callable[[Obligation], None] | None = None,
        seed: int = 0,
    ):
        self.limit = limit
        self.seed = seed
        self.progress = progress
        self.results: list[Result] = []  # of the latest discharge, as far as it has come
        self._answers: dict[str, tuple[Verdict, tuple[Reply, ...]]] = {}
        self._idle: dict[str, bool] = {}

    def discharge(self, obligations: Iterable[Obligation]) -> list[Result]:
        """One result an obligation, in order."""
        results = self.results = []
        for obligation in obligations:
            if self.progress:
                self.progress(obligation)
            text = script(obligation.hypotheses, obligation.goal)
            if text not in self._answers:
                self._answers[text] = self._ask(obligation, text)
            verdict, replies = self._answers[text]
            hypotheses = obligation.hypotheses
            idle = self._is_idle(hypotheses)
            assumed = idle and self._is_idle(tuple(h for h in hypotheses if h[0] in ASSUMPTIONS))
            results.append(Result(obligation, verdict, text, replies, idle, assumed))
        return results

    def _ask(self, obligation: Obligation, text: str) -> tuple[Verdict, tuple[Reply, ...]]:
        second = ask_bitwuzla(text, self.limit, self.seed)
        if second.answer is Answer.SAT:
            # Nothing to prove; the search for a run that shows it is a separate matter.
            return Verdict.UNKNOWN, (second,)
        first = ask_z3(text, self.limit, self.seed)
        if first.answer is Answer.SAT and second.answer is Answer.UNSAT:
            raise InternalError(f"z3 and bitwuzla contradict each other on {obligation.name}")
        proved = first.answer is Answer.UNSAT and second.answer is Answer.UNSAT
        return (Verdict.PROVED if proved else Verdict.UNKNOWN), (first, second)

    def _is_idle(self, hypotheses: Facts) -> bool:
        if not hypotheses:
            return False
        text = script(hypotheses, FALSE)
        if text not in self._idle:
            self._idle[text] = ask_bitwuzla(text, self.limit).answer is not Answer.SAT
        return self._idle[text]


def vacuous(results: Sequence[Result]) -> list[str]:
    """Names of obligations that say nothing.

    An obligation of which no instance has hypotheses that can hold, or one whose assumptions
    contradict each other.
    """
    live = {result.obligation.name for result in results if not result.idle}
    silent = {result.obligation.name for result in results} - live
    return sorted(silent | {result.obligation.name for result in results if result.contradicted})
