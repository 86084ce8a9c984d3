"""Read run.json files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
from kexec_verify.errors import UsageError
from kexec_verify.files import JSON_LIMIT, decode_json, read_file
from kexec_verify.report.bounds import require_machine_values
from kexec_verify.report.live_record import read_live
from kexec_verify.report.live_verdicts import with_live
from kexec_verify.report.model import SCHEMA, Run

_MAKE = "verify run TARGET"


def read_run(path: Path) -> Run:
    """Return the run in ``path``.

    >>> read_run(Path("no/run.json"))
    Traceback (most recent call last):
    kexec_verify.errors.UsageError: no/run.json: expected a run.json, found: No such file or directory

    :raises UsageError: if it is not a run.json of this schema.
    """
    try:
        data = read_file(path, JSON_LIMIT)
    except OSError as error:
        raise UsageError(f"{path}: expected a run.json, found: {error.strerror}", _MAKE) from error
    return decode_run(data, str(path))


def decode_run(data: bytes, path: str) -> Run:
    """Return the run in the contents of a run.json.

    :param path: where they come from, for messages.
    :raises UsageError: if they are none of this schema.
    """
    try:
        run = decode_json(data, Run)
    except msgspec.DecodeError as error:
        raise UsageError(f"{path}: expected a run.json of schema {SCHEMA}, found: {error}", _MAKE) from error
    if run.schema != SCHEMA:
        raise UsageError(f"{path}: expected schema {SCHEMA}, found {run.schema}", _MAKE)
    try:
        require_machine_values(run, data)
    except ValueError as error:
        raise UsageError(f"{path}: expected a run.json of this tool, found {error}", _MAKE) from error
    return run


def read_runs(directory: Path, note: Callable[[str], None] = lambda _: None) -> dict[Path, Run]:
    """Return every run under ``directory`` by its folder, in the order of their names.

    Each is as live runs of the same bytes leave it: what they contradict is not proved.

    :param note: called with a sentence for each run.json that is left out.
    """
    runs = {}
    for path in sorted(directory.glob("*/run.json")):
        try:
            run = read_run(path)
            runs[path.parent] = with_live(run, read_live(path.parent, run.target.sha256))
        except UsageError as error:
            note(str(error))
    return runs


def earlier_seconds(directory: Path) -> float | None:
    """Return how long the finished run in ``directory`` took, in seconds; None if there is none."""
    try:
        run = read_run(directory / "run.json")
    except UsageError:
        return None
    return run.seconds if run.complete else None
