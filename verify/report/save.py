"""Puts a report in its place: all of its files or none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from verify.errors import UsageError
from verify.report.place import locked

RUN = "run.json"


def save(files: Mapping[str, bytes], directory: Path) -> Path:
    """Write a report's files to ``directory``, all or nothing; the path of run.json.

    :param files: by path in the directory, run.json among them.
    :raises UsageError: if the directory cannot be written; an earlier report is left whole.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
        try:
            fresh.chmod(0o755)
            for folder in sorted({(fresh / name).parent for name in files}):
                folder.mkdir(exist_ok=True)
            for name, content in files.items():
                (fresh / name).write_bytes(content)
            with locked(directory.parent):
                _swap(fresh, directory)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
    except OSError as error:
        raise UsageError(f"expected a directory to write to, found {directory}: {error.strerror}") from error
    return directory / RUN


def is_saved(files: Mapping[str, bytes], directory: Path) -> bool:
    """``directory`` has each of these files as it is; it may have more, found out since."""
    try:
        return all((directory / name).read_bytes() == content for name, content in files.items())
    except OSError:
        return False


def _swap(fresh: Path, directory: Path) -> None:
    """Put ``fresh`` in the place of ``directory``."""
    old: Path | None = None
    if directory.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{directory.name}.old.", dir=directory.parent))
        os.replace(directory, old / "run")
    os.replace(fresh, directory)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
