"""Queries to solvers: each distinct one is sent once, here or in other processes.

A query is SMT-LIB text and nothing else. So it can be sent wherever the solvers are installed,
and its answer can be kept for later runs. It is sent without addresses in the names of its
symbols, so that a function is proved once for any address. Addresses in the kernel's image that are
constants of a query are made symbols too (:mod:`kexec_verify.prove.general`).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Protocol

from kexec_verify.prove import general
from kexec_verify.prove.address_independent import address_independent
from kexec_verify.prove.general import General, generalise, is_answered
from kexec_verify.prove.solvers import TIME_LIMIT, Answer, Replies, Reply

type Later = Callable[[], Replies]
"""Waits for the answer to a query."""


class Store(Protocol):
    """A store of answers for later runs."""

    def find(self, kind: str, text: str, seed: int) -> Replies | None:
        """Return the stored answers to ``text`` for one kind of query; None if no valid ones are stored."""

    def keep(self, kind: str, text: str, seed: int, replies: Replies) -> None:
        """Store answers; the query for an answer that cannot be stored is sent again later."""

    def find_model(self, key: str) -> dict[str, int] | None:
        """Return the values stored under ``key``; None if no valid ones are stored."""

    def keep_model(self, key: str, model: dict[str, int]) -> None:
        """Store the values of a model."""


class Queries:
    """Sends queries to solvers: in this process when an answer is needed, or at once to an executor.

    :param executor: where the solvers run; its workers import :mod:`kexec_verify.prove.general`.
    :param store: answers of earlier runs.
    :ivar image: virtual addresses of the kernel whose queries are sent next. An empty range is sound too,
        but answers are not reused for a kernel with other addresses.
    :ivar asked: how many queries went to a solver, ``reused`` how many the store answered.
    """

    def __init__(self, executor: Executor | None = None, store: Store | None = None):
        self._executor = executor
        self._store = store
        self._known: dict[tuple[str, str, float, int], Later] = {}
        self.image = range(0)
        self.asked = 0
        self.reused = 0

    def find_model(self, key: str) -> dict[str, int] | None:
        """Return values that an earlier run stored under ``key``; they are no more than a suggestion."""
        return self._store.find_model(key) if self._store is not None else None

    def keep_model(self, key: str, model: dict[str, int]) -> None:
        """Store values for later runs."""
        if self._store is not None:
            self._store.keep_model(key, model)

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
            # A general query takes longer. Without a store no other kernel has any use of its answer.
            query = generalise(text, self.image) if self._store is not None else General(text)
            stored = self._find(kind, query, seed)
            if stored is not None:
                self._known[key] = self._stored(stored)
            else:
                self._known[key] = self._asked(kind, query, limit, seed, here)
        return self._known[key]

    def _find(self, kind: str, query: General, seed: int) -> Replies | None:
        """Return stored answers to the query: to its general form, or else to its own text."""
        if self._store is None:
            return None
        stored = self._store.find(kind, query.text, seed)
        if stored is not None and is_answered(query, stored):
            return stored
        return self._store.find(kind, query.exact, seed) if query.addresses else None

    def _stored(self, replies: Replies) -> Later:
        self.reused += 1
        return lambda: replies

    def _asked(self, kind: str, query: General, limit: float, seed: int, here: bool) -> Later:
        ask: Callable[..., tuple[bool, Replies]] = getattr(general, kind)
        future: Future[tuple[bool, Replies]] | None = None
        if self._executor is not None and not here:
            future = self._executor.submit(ask, query, limit, seed)
        got: list[Replies] = []
        self.asked += 1

        def answer() -> Replies:
            if not got:
                for_any, replies = future.result() if future is not None else ask(query, limit, seed)
                got.append(replies)
                # That a solver gave up is not an answer to the query, so it is not stored.
                if self._store is not None and all(r.answer is not Answer.UNKNOWN for r in replies):
                    self._store.keep(kind, query.text if for_any else query.exact, seed, replies)
            return got[0]

        return answer
