"""Solvers in the processes of a Dask scheduler (https://distributed.dask.org)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any

from kexec_verify.errors import UsageError
from kexec_verify.prove.solvers import bitwuzla_version, z3_version

_CONNECT = "10s"


@contextmanager
def connected(address: str) -> Iterator[Executor]:
    """Return an executor that makes its calls in the workers of the scheduler at ``address``.

    :raises UsageError: if Dask is not installed here, no scheduler answers, it has no worker,
        or a worker has other solvers than this process.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise UsageError(
            "expected the package distributed for --scheduler, found none: pip install 'kexec-verify[dask]'"
        ) from error
    try:
        client = Client(address, timeout=_CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"expected a Dask scheduler at {address}, found: {error}") from error
    with client:
        require_same_solvers(client.run(solvers), address)
        yield _Workers(client)


class _Workers(Executor):
    """An executor over a client's workers.

    Dask's own executor reads a task's state after its result, and takes a result for an error
    that a worker's death loses in between. Here the result itself is waited for.
    """

    def __init__(self, client: Any):
        self._client = client

    def submit[**P, T](self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call ``fn`` in a worker."""
        return _Task(self._client.submit(fn, *args, **kwargs, pure=False))


class _Task[T](Future[T]):
    """A call in a worker; only its result is awaited."""

    def __init__(self, task: Any):
        super().__init__()
        self._task = task

    def result(self, timeout: float | None = None) -> T:
        """Return what the call returned.

        :raises Exception: what it raised, or the error of the workers.
        """
        found: T = self._task.result(timeout)
        return found


def solvers() -> str:
    """Return the solvers of this process, by name and version."""
    return f"{z3_version()}, {bitwuzla_version()}"


def require_same_solvers(found: dict[str, str], address: str) -> None:
    """Check that the workers' solvers have the versions that the run names.

    :raises UsageError: if there is no worker, or one has other versions.
    """
    if not found:
        raise UsageError(f"expected workers at {address}, found none: dask worker {address}")
    here = solvers()
    for worker, there in sorted(found.items()):
        if there != here:
            raise UsageError(f"expected {here} at the worker {worker}, found {there}")
