"""Asking: questions to solvers, each distinct one once, here or in other processes.

A question is SMT-LIB text and nothing else, so it can be asked wherever the solvers are
installed, and its answer can be kept for later runs. It is asked without the addresses that
its symbols name, so that a function is proved once wherever it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Protocol

from verify.prove.placeless import placeless
from verify.prove.solvers import TIME_LIMIT, Answer, Replies, Reply, filter_by, settle

type Later = Callable[[], Replies]
"""The answer to a question that was asked, once it is wanted."""


class Store(Protocol):
    """Where answers outlive a run."""

    def find(self, solver: str, text: str, seed: int) -> Reply | None:
        """The answer that ``solver`` once gave to ``text``; None if there is none to be believed."""

    def keep(self, text: str, seed: int, reply: Reply) -> None:
        """Keep an answer; what cannot be kept is asked again some time."""


class Asker:
    """Asks solvers in this process, when an answer is wanted, or at once in those of an executor.

    :param executor: where to ask; its workers import :mod:`verify.prove.solvers` alone.
    :param store: answers of earlier runs.
    :ivar asked: how many questions went to a solver, ``reused`` how many the store answered.
    """

    def __init__(self, executor: Executor | None = None, store: Store | None = None):
        self._executor = executor
        self._store = store
        self._settled: dict[tuple[str, float, int], Later] = {}
        self._filtered: dict[tuple[str, float, int], Later] = {}
        self._known: dict[tuple[str, int], Reply] = {}  # bitwuzla's answers so far
        self.asked = 0
        self.reused = 0

    def settle(self, text: str, limit: float = TIME_LIMIT, seed: int = 0) -> Later:
        """Ask both solvers, as :func:`verify.prove.solvers.settle` does."""
        text = placeless(text)
        key = (text, limit, seed)
        if key not in self._settled:
            second = self._known.get((text, seed)) or self._stored("bitwuzla", text, seed)
            first = self._stored("z3", text, seed) if second is not None else None
            if second is not None and second.answer is Answer.SAT:
                self._settled[key] = self._given((second,))
            elif first is not None and second is not None:
                self._settled[key] = self._given((first, second))
            else:
                self._settled[key] = self._later(settle, text, limit, seed, second)
        return self._settled[key]

    def filter_by(self, text: str, limit: float = TIME_LIMIT, seed: int = 0) -> Later:
        """Ask bitwuzla alone, as :func:`verify.prove.solvers.filter_by` does."""
        text = placeless(text)
        key = (text, limit, seed)
        if key not in self._filtered:
            known = self._known.get((text, seed)) or self._stored("bitwuzla", text, seed)
            self._filtered[key] = (
                self._given((known,)) if known is not None else self._later(filter_by, text, limit, seed)
            )
        return self._filtered[key]

    def _stored(self, solver: str, text: str, seed: int) -> Reply | None:
        return self._store.find(solver, text, seed) if self._store is not None else None

    def _given(self, replies: Replies) -> Later:
        self.reused += 1
        return lambda: replies

    def _later(self, ask: Callable[..., Replies], text: str, limit: float, seed: int, *more: object) -> Later:
        future: Future[Replies] | None = None
        if self._executor is not None:
            future = self._executor.submit(ask, text, limit, seed, *more)
        got: list[Replies] = []
        self.asked += 1

        def answer() -> Replies:
            if not got:
                got.append(future.result() if future is not None else ask(text, limit, seed, *more))
                self._learn(text, seed, got[0])
            return got[0]

        return answer

    def _learn(self, text: str, seed: int, replies: Replies) -> None:
        for reply in replies:
            # That a solver gave up hangs on the machine and its load, so it is no answer for later.
            if reply.answer is Answer.UNKNOWN:
                continue
            if reply.solver == "bitwuzla":
                self._known[text, seed] = reply
            if self._store is not None:
                self._store.keep(text, seed, reply)
