"""Discharges obligations: a proof counts when z3 and bitwuzla both say unsat.

A second query checks the hypotheses alone: a goal that follows
from a contradiction is IDLE (a path that cannot be taken), and a kind of obligation of
which every instance is idle is VACUOUS.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kexec_verify.errors import InternalError
from kexec_verify.logic import FALSE, Formula
from kexec_verify.obligation import Facts, Obligation
from kexec_verify.prove.queries import Later, Queries
from kexec_verify.prove.smtlib import script
from kexec_verify.prove.solvers import SOLVERS, TIME_LIMIT, Answer, Replies, Reply
from kexec_verify.specs.assumptions import ASSUMPTIONS
from kexec_verify.verdict import Verdict

_FILTER_LIMIT = 10.0  # seconds of CPU time, 20 times what any takes; then it is dropped


@dataclass(frozen=True)
class Result:
    """The result of one obligation.

    :param text: the SMT-LIB script that the solvers got.
    :param idle: its hypotheses contradict each other, so the proof means nothing by itself.
    :param contradicted: its assumptions alone contradict each other.
    """

    obligation: Obligation
    verdict: Verdict
    text: str
    replies: tuple[Reply, ...]
    idle: bool
    contradicted: bool = False

    @property
    def used(self) -> tuple[str, ...]:
        """Labels of the hypotheses that the proof used (bitwuzla's unsat core)."""
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


def decide(hypotheses: Facts, goal: Formula, queries: Queries | None = None) -> bool:
    """Return whether the hypotheses imply the goal, to filter candidates; False if undecided."""
    if goal.is_true():
        return True
    reply = (queries or Queries()).filter_now(script(hypotheses, goal), _FILTER_LIMIT)
    return reply.answer is Answer.UNSAT


class Discharger:
    """Discharges obligations, sending each distinct query once.

    :param asker: sends queries to the solvers; by default in this process.
    :param contradictions: folder for the texts on which the solvers disagree.
    :ivar listener: called with each result as it becomes known.
    """

    def __init__(
        self,
        limit: float = TIME_LIMIT,
        progress: Callable[[Obligation], None] | None = None,
        seed: int = 0,
        queries: Queries | None = None,
        contradictions: Path | None = None,
    ):
        self.limit = limit
        self.seed = seed
        self.progress = progress
        self.queries = queries or Queries()
        self.contradictions = contradictions
        self.listener: Callable[[Result], None] = lambda result: None
        self._settling: dict[str, Later] = {}
        self._filters: dict[str, Later] = {}
        self._idling: dict[tuple[tuple[str, int], ...], Later] = {}

    def decide(self, hypotheses: Facts, goal: Formula) -> bool:
        """Return whether the hypotheses imply the goal, to filter candidates; False if undecided."""
        return decide(hypotheses, goal, self.queries)

    def discharge(self, obligations: Iterable[Obligation]) -> list[Result]:
        """Return one result for each obligation, in order."""
        return [result() for result in self.begin(obligations)]

    def begin(self, obligations: Iterable[Obligation]) -> list[Callable[[], Result]]:
        """Send every query; return for each obligation a function that waits for its result."""
        return [self._begin(obligation) for obligation in obligations]

    def _begin(self, obligation: Obligation) -> Callable[[], Result]:
        text = script(obligation.hypotheses, obligation.goal)
        self._settle(text)
        self._idle(obligation.hypotheses)
        return partial(self._end, obligation, text)

    def _end(self, obligation: Obligation, text: str) -> Result:
        if self.progress:
            self.progress(obligation)
        verdict, replies = self._ask(obligation, text)
        hypotheses = obligation.hypotheses
        idle = self._is_idle(hypotheses)
        assumed = idle and self._is_idle(tuple(h for h in hypotheses if h[0] in ASSUMPTIONS))
        result = Result(obligation, verdict, text, replies, idle, assumed)
        self.listener(result)
        return result

    def _key(self, text: str) -> str:
        """Return the key of a text; texts with equal keys are the same query."""
        return text

    def _settle(self, text: str) -> Later:
        key = self._key(text)
        if key not in self._settling:
            self._settling[key] = self.queries.settle(text, self.limit, self.seed)
        return self._settling[key]

    def _idle(self, hypotheses: Facts) -> Later | None:
        """Return the answer to whether the hypotheses can hold; without hypotheses no query is sent."""
        if not hypotheses:
            return None
        # All obligations of a path have the same ones: printing them again takes longer than the query.
        same = tuple((label, formula.hash()) for label, formula in hypotheses)
        if same not in self._idling:
            text = script(hypotheses, FALSE)
            key = self._key(text)
            if key not in self._filters:
                self._filters[key] = self.queries.filter_by(text, self.limit)
            self._idling[same] = self._filters[key]
        return self._idling[same]

    def _ask(self, obligation: Obligation, text: str) -> tuple[Verdict, Replies]:
        replies = self._settle(text)()
        answers = {reply.answer for reply in replies}
        if answers == {Answer.SAT, Answer.UNSAT}:
            raise InternalError(
                f"z3 and bitwuzla contradict each other on {obligation.name}{self._kept(text, replies)}"
            )
        # If a solver finds it satisfiable it is not proved; only a run refutes it.
        proved = answers == {Answer.UNSAT} and len(replies) == len(SOLVERS)
        return (Verdict.PROVED if proved else Verdict.UNKNOWN), replies

    def _kept(self, text: str, replies: Replies) -> str:
        """Return the file that keeps the text for each solver, for a manual query; empty if none."""
        if self.contradictions is None:
            return ""
        self.contradictions.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:24]
        for reply in replies:
            path = self.contradictions / f"{name}.{reply.solver}.smt2"
            path.write_text(f"; {reply.solver}: {reply.answer}\n{text}")
        return f": {self.contradictions}/{name}.*.smt2"

    def _is_idle(self, hypotheses: Facts) -> bool:
        asked = self._idle(hypotheses)
        return asked is not None and asked()[0].answer is not Answer.SAT


def vacuous(results: Sequence[Result]) -> list[str]:
    """Return the names of vacuous obligations.

    An obligation of which no instance has hypotheses that can hold, or one whose assumptions
    contradict each other.
    """
    live = {result.obligation.name for result in results if not result.idle}
    silent = {result.obligation.name for result in results} - live
    return sorted(silent | {result.obligation.name for result in results if result.contradicted})
