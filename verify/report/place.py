"""Where reports are written: tried before a run, locked while one is put in place, whole or not at all."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kexec_verify.errors import UsageError


def require_writable(directory: Path) -> None:
    """Make ``directory`` and try to write in it, before time is spent on what it is to hold.

    :raises UsageError: if it cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(b"\0")
    except OSError as error:
        raise UsageError(f"expected a directory to write to, found {directory}: {error.strerror}") from error


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keeps every other run from putting a report into ``directory`` for as long; waits for other runs.

    The lock is on the folder itself: no file is left, and it goes with the process.
    """
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` through a temporary file, so that a reader sees the old or the new.

    A device, FIFO or socket is written to as it is. Of a symbolic link, what it names is written.

    :raises UsageError: if it cannot be written; an earlier file is left whole.
    """
    named, path = path, path.resolve()
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UsageError(f"expected a file to write, found {named}: {error.strerror}") from error
