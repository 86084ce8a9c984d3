"""Executors for solvers: this process, other processes of this machine, or those of a Dask scheduler.

Only SMT-LIB text and answers are passed between processes. If a process dies, no answer is lost:
its queries are sent again.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from kexec_verify.errors import InternalError

type _Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

DEATHS = 3  # deaths of processes that work on one query; the query may be the cause


@contextmanager
def solving(jobs: int = 0, scheduler: str | None = None) -> Iterator[Executor | None]:
    """Return an executor for queries; None means this process.

    :param jobs: processes; 0 is one for each core, and 1 this one.
    :param scheduler: address of a Dask scheduler, such as ``tcp://127.0.0.1:8786``, to use instead.
    :raises UsageError: if there is no scheduler there, or Dask is not installed.
    """
    if scheduler is not None:
        from kexec_verify.prove.distributed import connected

        with connected(scheduler) as executor:
            yield executor
        return
    count = jobs or len(os.sched_getaffinity(0))
    if count == 1:
        yield None
        return
    processes = Processes(count)
    try:
        yield processes
    finally:
        processes.shutdown(wait=False, cancel_futures=True)


class Processes(Executor):
    """Processes of this machine; one that dies is replaced, and its query is sent again.

    A thread waits for each process, and they share one queue of calls.
    """

    def __init__(self, count: int):
        self._threads = ThreadPoolExecutor(count, "solver")
        self._own = threading.local()
        self._children: list[_Child] = []
        self._over = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call ``fn`` in one of the processes, as :class:`concurrent.futures.Executor` does.

        The future raises InternalError if one process after the other dies during the call.
        """
        return self._threads.submit(self._call, (fn, args, kwargs))

    def _call(self, call: _Call) -> Any:
        for _ in range(DEATHS):
            if self._over:
                raise CancelledError
            child = getattr(self._own, "child", None)
            if child is None:
                child = self._own.child = _Child()
                self._children.append(child)
            try:
                returned, value = child.call(call)
            except (EOFError, OSError):
                child.end()
                self._own.child = None
                continue
            if not returned:
                raise value
            return value
        if self._over:
            raise CancelledError
        raise InternalError(
            f"{DEATHS} solver processes died of one question, or of this machine's want of memory"
        )

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes; without ``wait`` also those that are busy."""
        if wait:
            self._threads.shutdown(True, cancel_futures=cancel_futures)
        self._over = True
        # A query may take many more seconds, and nobody waits for its answer any more.
        for child in list(self._children):
            child.end()
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Child:
    """One process that makes calls, one at a time."""

    def __init__(self) -> None:
        # Not forked: solvers must not inherit what this process holds, such as an engine and its locks.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def call(self, call: _Call) -> tuple[bool, Any]:
        """Return whether the call succeeded, and what it returned or raised.

        :raises EOFError, OSError: if the process died.
        """
        self._pipe.send(call)
        answer: tuple[bool, Any] = self._pipe.recv()
        return answer

    def end(self) -> None:
        """Kill the process; whoever waits for it sees that it died."""
        self._process.kill()


def _serve(pipe: Connection) -> None:
    # Ctrl-C goes to every process of a terminal's group; the run's own decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            fn, args, kwargs = pipe.recv()
        except EOFError:
            return  # the run is over
        try:
            answer = (True, fn(*args, **kwargs))
        except Exception as error:
            answer = (False, error)
        pipe.send(answer)
