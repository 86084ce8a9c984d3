"""Solvers in the processes of a Dask scheduler (https://distributed.dask.org)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from verify.errors import UsageError
from verify.prove.solvers import bitwuzla_version, z3_version

_CONNECT = "10s"


@contextmanager
def connected(address: str) -> Iterator[Executor]:
    """An executor whose calls are made by the workers of the scheduler at ``address``.

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
        yield client.get_executor(pure=False)


def solvers() -> str:
    """The solvers of this process, by name and version."""
    return f"{z3_version()}, {bitwuzla_version()}"


def require_same_solvers(found: dict[str, str], address: str) -> None:
    """Answers count under the versions that a run names.

    :raises UsageError: if there is no worker, or one with others.
    """
    if not found:
        raise UsageError(f"expected workers at {address}, found none: dask worker {address}")
    here = solvers()
    for worker, there in sorted(found.items()):
        if there != here:
            raise UsageError(f"expected {here} at the worker {worker}, found {there}")
