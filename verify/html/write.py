"""Draw the page of a run, before it is saved or afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kexec_verify.errors import UsageError
from kexec_verify.files import JSON_LIMIT, read_file
from kexec_verify.html import history
from kexec_verify.html.companion_files import before_save, companion_files
from kexec_verify.html.history import replace
from kexec_verify.html.index import PAGE
from kexec_verify.html.page import run_page
from kexec_verify.report.model import Run
from kexec_verify.report.read import read_run
from kexec_verify.report.seal import is_sealed
from kexec_verify.report.source_lines import source_finder


def fresh_page(run: Run, directory: Path, note: Callable[[str], None] = lambda _: None) -> str:
    """Return the page of a new run that is to be saved in ``directory``.

    :param note: called with a sentence for each file next to it that cannot be read.
    """
    return run_page(run, before_save(directory, run, note), str(directory / "run.json"), source_finder())


def remember(run: Run, directory: Path) -> None:
    """Add the run that was saved in ``directory`` to its target's history.

    :raises UsageError: if that cannot be written.
    """
    reports, name = directory.parent, directory.name
    history.write(reports, name, history.with_run(history.read(reports, name), run))


def write_page(path: Path, note: Callable[[str], None] = lambda _: None) -> Path:
    """Draw the page of the run.json at ``path``, write it to the same folder, and return its path.

    :param note: called with a sentence for each file next to it that cannot be read.
    :raises UsageError: if that is no run.json, or its directory cannot be written.
    """
    run = read_run(path)
    directory = path.resolve().parent
    page = _drawn(run, directory, path, note)
    try:
        replace(directory / PAGE, page.encode(errors="replace"))
    except OSError as error:
        raise UsageError(
            f"expected a directory to write to, found {path.parent}: {error.strerror}"
        ) from error
    return path.parent / PAGE


def _drawn(run: Run, directory: Path, path: Path, note: Callable[[str], None]) -> str:
    """Return the page of a run that anybody may have written: its counterexamples may lack fields.

    :raises UsageError: if a counterexample lacks what the page shows of it.
    """
    encoded = read_file(path, JSON_LIMIT)
    try:
        return run_page(run, companion_files(directory, run, encoded, note), str(path), source_finder())
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        if not any(record.counterexample for record in run.properties) or is_sealed(encoded, directory):
            raise
        what = f"{type(error).__name__}: {error}"
        raise UsageError(f"{path}: expected counterexamples of this tool, found one with {what}") from error


def is_index(path: Path) -> bool:
    """Return whether ``path`` is an index that ``verify run`` wrote, and not the user's own page."""
    try:
        with path.open("rb") as stream:
            return b'<meta name="generator" content="kexec-verify">' in stream.read(2000)
    except OSError:
        return False
