"""Keep a few figures of each run of a target, in a file that a new run does not replace."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
from kexec_verify.errors import UsageError
from kexec_verify.files import JSON_LIMIT, decode_json, read_file
from kexec_verify.html.status import Status, status
from kexec_verify.report.model import Run
from kexec_verify.verdict import Verdict

DIRECTORY = ".history"
KEPT = 50  # runs; older ones are dropped


class Entry(msgspec.Struct, frozen=True):
    """One run: when (UTC, ISO 8601), how long (seconds), on which bytes, with which result."""

    started: str
    seconds: float
    tool: str
    sha256: str
    verdict: Verdict
    proved: int
    waived: int
    properties: int
    obligations: int


def entry(run: Run) -> Entry:
    """Return the figures of ``run``."""
    return Entry(
        started=run.started,
        seconds=run.seconds,
        tool=run.tool,
        sha256=run.target.sha256,
        verdict=run.verdict,
        proved=sum(record.verdict is Verdict.PROVED for record in run.properties),
        waived=sum(record.waived for record in run.properties),
        properties=len(run.properties),
        obligations=sum(len(record.obligations) for record in run.properties),
    )


def entry_status(shown: Entry) -> Status:
    """Return how an earlier run's verdict is shown; with a waived property it is not green."""
    # With all of them waived there is no verdict left, which is recorded as UNKNOWN.
    waived = shown.waived > 0 and (shown.verdict is Verdict.PROVED or shown.waived == shown.properties)
    return status(Verdict.REFUTED, waived=True) if waived else status(shown.verdict)


def read(reports: Path, name: str, note: Callable[[str], None] = lambda _: None) -> list[Entry]:
    """Return earlier runs of the report directory ``name``, oldest first; none without a readable file.

    :param note: called with a sentence if the file is there and cannot be read.
    """
    path = reports / DIRECTORY / f"{name}.json"
    try:
        return decode_json(read_file(path, JSON_LIMIT), list[Entry])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        note(left_out(path, error))
        return []


def left_out(path: Path, error: Exception) -> str:
    """Return the note on a file that a page leaves out because it cannot be read."""
    found = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{path}: expected a file of this tool, found: {found}; the page leaves it out"


def with_run(entries: list[Entry], run: Run) -> list[Entry]:
    """Return ``entries`` with that of ``run`` added once, without those that are too old to keep."""
    return [*(known for known in entries if known.started != run.started), entry(run)][-KEPT:]


def write(reports: Path, name: str, entries: list[Entry]) -> None:
    """Replace the file of ``name``.

    :raises UsageError: if it cannot be written.
    """
    directory = reports / DIRECTORY
    try:
        directory.mkdir(parents=True, exist_ok=True)
        replace(
            directory / f"{name}.json", msgspec.json.format(msgspec.json.encode(entries), indent=1) + b"\n"
        )
    except OSError as error:
        raise UsageError(f"expected a directory to write to, found {directory}: {error.strerror}") from error


def replace(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` whole or not at all."""
    handle, fresh = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        Path(fresh).chmod(0o644)
        os.replace(fresh, path)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise
