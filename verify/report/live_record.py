"""Write live.json into a run's folder, and read it back."""

from __future__ import annotations

from pathlib import Path

import msgspec
from kexec_verify.files import read_record
from kexec_verify.report.live_model import FILE, SCHEMA, LiveRun
from kexec_verify.report.place import write_whole


def write_live(run: LiveRun, directory: Path) -> Path:
    """Write live.json into the folder of a target's report; return its path.

    :raises UsageError: if it cannot be written.
    """
    path = directory / FILE
    write_whole(path, msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")
    return path


def read_live(directory: Path, sha256: str) -> LiveRun | None:
    """Return the live runs in the folder of a report; None if there are none of these bytes.

    :param sha256: of the kernel's file, as run.json has it.
    :raises UsageError: if live.json cannot be read or is of another schema.
    """
    path = directory / FILE
    if not path.exists():
        return None
    found = read_record(path, LiveRun, SCHEMA)
    return found if found.sha256 == sha256 else None
