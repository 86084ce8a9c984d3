"""Save a report: all of its files or none."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from kexec_verify.errors import UsageError
from kexec_verify.files import JSON_LIMIT, read_file
from kexec_verify.report.place import locked
from kexec_verify.report.seal import FILE as SEAL

RUN = "run.json"
_FILES = frozenset({RUN, SEAL, "index.html"})
_TEXT = re.compile(r"obligations/[0-9a-f]{24}\.smt2")
_MARKS = {RUN: b'"schema"', "index.html": b"kexec-verify"}
"""What the beginning of a report's file has; no other file of that name is replaced."""
_HEAD = 4096


def save(files: Mapping[str, bytes], directory: Path) -> Path:
    """Write a report's files to ``directory``, all or none, and return the path of run.json.

    :param files: by path in the directory, run.json among them.
    What else the directory holds stays there: checks, mutation runs, and files that are not this tool's.

    :raises UsageError: if the directory cannot be written, or what is there is no report of this tool.
        What is there is left whole.
    """
    require_own(directory)
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
    """Return whether ``directory`` has each of these files unchanged; it may have more."""
    try:
        return all(read_file(directory / name, len(content)) == content for name, content in files.items())
    except OSError:
        return False


def require_own(directory: Path) -> None:
    """Refuse a folder in which a report would replace what this tool did not write.

    :raises UsageError: for a file, a link, or a folder whose run.json is not this tool's.
    """
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise UsageError(
            f"expected a folder for the report, found {directory}, which is no folder: "
            "choose another with --reports"
        )
    for name, mark in _MARKS.items():
        path = directory / name
        if path.exists() and not (path.is_file() and _has(path, mark)):
            raise UsageError(
                f"expected a report of this tool, found {path}, which is none: "
                "choose another folder with --reports"
            )


def _has(path: Path, mark: bytes) -> bool:
    try:
        return mark in read_file(path, JSON_LIMIT)[:_HEAD]
    except OSError:
        return False


def _is_ours(name: str) -> bool:
    """Return whether a report has a file of this name, by its path in the folder."""
    return name in _FILES or _TEXT.fullmatch(name) is not None


def _swap(fresh: Path, directory: Path) -> None:
    """Put ``fresh`` in the place of ``directory``, and keep files there that belong to no report."""
    old: Path | None = None
    if directory.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{directory.name}.old.", dir=directory.parent))
        os.replace(directory, old / "run")
    os.replace(fresh, directory)
    if old is not None:
        _keep_others(old / "run", directory)
        shutil.rmtree(old, ignore_errors=True)


def _keep_others(old: Path, directory: Path) -> None:
    """Move each file of ``old`` that belongs to no report to ``directory``."""
    for path in sorted(old.rglob("*")):
        name = path.relative_to(old).as_posix()
        if path.is_dir() and not path.is_symlink():
            continue
        target = directory / name
        if not _is_ours(name) and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
