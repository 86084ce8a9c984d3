"""sweep.json as the journal of a sweep: a kernel that it has is not proved again.

A row is reused only for the same request: this package, this tool, and a finished run whose
run.json is still the file that the row was made from.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec
from kexec_verify.files import JSON_LIMIT, decode_json, read_file
from kexec_verify.report.place import locked, write_whole
from kexec_verify.sweep.model import FILE, SCHEMA, Row, Sweep
from kexec_verify.sweep.rows import digest
from kexec_verify.target.debian import Package


class _Rows(msgspec.Struct, frozen=True):
    """A Sweep whose rows are not read yet."""

    schema: int
    rows: list[msgspec.Raw]


def read(reports: Path) -> Sweep:
    """Return the sweep in ``reports``; without rows if it has no sweep.json of this schema.

    A malformed row is left out, and its kernel proved again.
    """
    try:
        found = decode_json(read_file(reports / FILE, JSON_LIMIT), _Rows)
    except (OSError, msgspec.DecodeError):
        return Sweep(SCHEMA, [])
    rows = []
    for raw in found.rows if found.schema == SCHEMA else []:
        with suppress(msgspec.DecodeError):
            rows.append(decode_json(bytes(raw), Row))
    return Sweep(SCHEMA, rows)


def finished(reports: Path, package: Package, tool: str) -> Row | None:
    """Return the row of a finished run of ``package`` by ``tool``, or None."""
    for row in read(reports).rows:
        if (row.package, row.version, row.archive) != (package.package, package.version, package.sha256):
            continue
        if row.error or not row.complete or row.tool != tool:
            continue
        if row.run and row.run == digest(reports / row.name / "run.json"):
            return row
    return None


def add(reports: Path, row: Row) -> Sweep:
    """Put ``row`` in the place of an earlier one of the same package; return the sweep.

    :raises UsageError: if sweep.json cannot be written.
    """
    key = row.package, row.version
    reports.mkdir(parents=True, exist_ok=True)
    with locked(reports):
        rows = [known for known in read(reports).rows if (known.package, known.version) != key]
        sweep = Sweep(SCHEMA, [*rows, row])
        write_whole(reports / FILE, msgspec.json.format(msgspec.json.encode(sweep), indent=1) + b"\n")
    return sweep
