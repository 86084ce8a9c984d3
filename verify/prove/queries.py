"""Queries to solvers: each distinct one is sent once, here or in other processes.

A query is SMT-LIB text and nothing else. So it can be sent wherever the solvers are installed,
and its answer can be kept for later runs. It is sent without addresses in the names of its
symbols, so that a function is proved once for any address.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Protocol

from kexec_verify.prove import solvers
from kexec_verify.prove.address_independent import address_independent
from kexec_verify.prove.solvers import TIME_LIMIT, Answer, Replies, Reply

type Later = Callable[[], Replies]
"""Waits for the answer to a query."""


class Store(Protocol):
    """A store of answers for later runs."""

    def find(self, kind: str, text: str, seed: int) -> Replies | None:
        """Return the stored answers to ``text`` for one kind of query; None if no valid ones are stored."""

    def keep(self, kind: str, text: str, seed: int, replies: Replies) -> None:
        """Store answers; the query for an answer that cannot be stored is sent again later."""


class Queries:
    """Sends queries to solvers: in this process when an answer is needed, or at once to an executor.

    :param executor: where the solvers run; its workers import :mod:`kexec_verify.prove.solvers` alone.
    :param store: answers of earlier runs.
    :ivar asked: how many queries went to a solver, ``reused`` how many the store answered.
    """

    def __init__(self, executor: Executor | None = None, store: Store | None = None):
        self._executor = executor
        self._store = store
        self._known: dict[tuple[str, str, float, int], Later] = {}
        self.asked = 0
        self.reused = 0

    def settle(self, text: str, limit: float = TIME_LIMIT, seed: int = 0) -> Later:
        """Send ``text`` to both solvers, as :func:`kexec_verify.prove.solvers.settle` does."""
        return self._ask("settle", text, limit, seed)

    def filter_by(self, text: str, limit: float = TIME_LIMIT, seed: int = 0) -> Later:
        """Send ``text`` to bitwuzla alone, as :func:`kexec_verify.prove.solvers.filter_by` does."""
        return self._ask("filter_by", text, limit, seed)

    def filter_now(self, text: str, limit: float = TIME_LIMIT) -> Reply:
        """Return bitwuzla's answer at once: from this process, ahead of queued queries."""
        (reply,) = self._ask("filter_by", text, limit, 0, here=True)()
        return reply

    def _ask(self, kind: str, text: str, limit: float, seed: int, here: bool = False) -> Later:
        text = address_independent(text)
        key = (kind, text, limit, seed)
        if key not in self._known:
            stored = self._store.find(kind, text, seed) if self._store is not None else None
            self._known[key] = self._stored(stored) if stored is not None else self._asked(*key, here)
        return self._known[key]

    def _stored(self, replies: Replies) -> Later:
        self.reused += 1
        return lambda: replies

    def _asked(self, kind: str, text: str, limit: float, seed: int, here: bool) -> Later:
        ask: Callable[..., Replies] = getattr(solvers, kind)
        future: Future[Replies] | None = None
        if self._executor is not None and not here:
            future = self._executor.submit(ask, text, limit, seed)
        got: list[Replies] = []
        self.asked += 1

        def answer() -> Replies:
            if not got:
                got.append(future.result() if future is not None else ask(text, limit, seed))
                # That a solver gave up is not an answer to the query, so it is not stored.
                if self._store is not None and all(r.answer is not Answer.UNKNOWN for r in got[0]):
                    self._store.keep(kind, text, seed, got[0])
            return got[0]

        return answer
