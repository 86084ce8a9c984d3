"""A discharger for two kernels: a question that differs in the names of addresses alone is asked once."""

from __future__ import annotations

from collections.abc import Callable

from verify.diff.places import Places
from verify.logic import FALSE
from verify.obligation import Facts, Obligation
from verify.prove.discharge import Discharger
from verify.prove.smtlib import script
from verify.prove.solvers import Answer, Reply, ask_bitwuzla
from verify.verdict import Verdict

type _Answered = tuple[Verdict, tuple[Reply, ...]]


class SharedDischarger(Discharger):
    """Discharges the obligations of one kernel after the other.

    Renaming labels and variables one to one changes no answer; constants are left as they are.
    """

    def __init__(self, limit: float, progress: Callable[[Obligation], None] | None = None):
        super().__init__(limit, progress)
        self.places: Places | None = None
        self._asked: dict[str, _Answered] = {}

    def _key(self, text: str) -> str:
        return text if self.places is None else self.places.relabelled(text)

    def _ask(self, obligation: Obligation, text: str) -> _Answered:
        key = self._key(text)
        if key not in self._asked:
            self._asked[key] = super()._ask(obligation, text)
        return self._asked[key]

    def _is_idle(self, hypotheses: Facts) -> bool:
        if not hypotheses:
            return False
        text = script(hypotheses, FALSE)
        key = self._key(text)
        if key not in self._idle:
            self._idle[key] = ask_bitwuzla(text, self.limit).answer is not Answer.SAT
        return self._idle[key]
