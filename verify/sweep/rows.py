"""A kernel's row, from its run or from the reason that there is none."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kexec_verify.files import file_sha256
from kexec_verify.prove.address_independent import address_independent
from kexec_verify.report.model import Run
from kexec_verify.sweep.identity import identity
from kexec_verify.sweep.model import Cell, Row
from kexec_verify.target.debian import Package


@dataclass(frozen=True)
class Cost:
    """What a kernel took: CPU time in seconds, MiB of memory at the peak."""

    cpu: float
    memory: int


def queries(run: Run, place: Path) -> set[str]:
    """Return the digests of the distinct queries of the obligations, from their texts without addresses.

    :param place: of the run's report; a missing text counts as a separate query.
    """
    texts = {o.text: o.sha256 for record in run.properties for o in record.obligations}
    found = set()
    for name, own in texts.items():
        try:
            found.add(hashlib.sha256(address_independent((place / name).read_text()).encode()).hexdigest())
        except OSError:
            found.add(own)
    return found


def row_of(package: Package, tool: str, run: Run, path: Path, cost: Cost) -> Row:
    """Return the row of a run.

    :param path: of its run.json.
    """
    return Row(
        name=path.parent.name,
        package=package.package,
        version=package.version,
        flavour=package.flavour,
        archive=package.sha256,
        tool=tool,
        finished=_now(),
        run=digest(path),
        complete=run.complete,
        kernel=run.target.version or "",
        sha256=run.target.sha256,
        seconds=run.seconds,
        cpu=round(cost.cpu, 2),
        memory=cost.memory,
        queries=len(queries(run, path.parent)),
        asked=run.queries.get("asked", 0),
        properties=[
            Cell(
                record.id,
                record.theorem,
                record.statement,
                record.function,
                record.verdict,
                record.waived,
                record.reason,
                len(record.obligations),
                record.seconds,
            )
            for record in run.properties
        ],
        functions=[identity(function) for function in run.functions],
    )


def error_row(package: Package, tool: str, reason: str, exit_status: int) -> Row:
    """Return the row of a kernel that could not be verified."""
    return Row(
        name="",
        package=package.package,
        version=package.version,
        flavour=package.flavour,
        archive=package.sha256,
        tool=tool,
        finished=_now(),
        error=reason,
        exit_status=exit_status,
    )


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal; empty if it cannot be read."""
    try:
        return file_sha256(path)
    except OSError:
        return ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
