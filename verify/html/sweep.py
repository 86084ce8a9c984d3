"""Draw the page of a sweep: verdicts by kernel and property, and which functions kernels share."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from kexec_verify.errors import UsageError
from kexec_verify.html.history import replace
from kexec_verify.html.page import render
from kexec_verify.html.status import Status, property_status, run_status, status
from kexec_verify.html.tree import TITLES, property_anchor
from kexec_verify.sweep import journal
from kexec_verify.sweep.compare import Difference, Shared, differences, label, shared
from kexec_verify.sweep.model import PAGE, Cell, Row
from kexec_verify.verdict import Verdict


@dataclass(frozen=True)
class Column:
    """A property, and how many kernels have it with each status, the worst first."""

    cell: Cell
    anchor: str
    counts: list[tuple[Status, int]]
    absent: int


@dataclass(frozen=True)
class Line:
    """A kernel in the tables.

    :param cells: by column, None where its run does not have the property.
    :param stale: its run is by another version of the tool than the latest.
    """

    row: Row
    name: str
    status: Status
    cells: list[tuple[Cell, Status] | None]
    letters: list[str]
    stale: bool


@dataclass(frozen=True)
class Series:
    """The kernels of one series, such as 6.1."""

    name: str
    lines: list[Line]


def write_sweep(reports: Path) -> Path:
    """Draw the page of the sweep.json in ``reports`` and return its path.

    :raises UsageError: if the directory cannot be written.
    """
    page = sweep_page(journal.read(reports).rows)
    try:
        replace(reports / PAGE, page.encode(errors="replace"))
    except OSError as error:
        raise UsageError(f"expected a directory to write to, found {reports}: {error.strerror}") from error
    return reports / PAGE


def sweep_page(rows: Sequence[Row]) -> str:
    """Return the page as HTML."""
    listed = sorted(rows, key=lambda row: (_numbers(row.version), row.flavour, row.package))
    functions = shared(listed)
    columns = _columns(listed)
    marks = [_letters(function) for function in functions]
    latest = max(listed, key=lambda row: row.finished).tool if listed else ""
    lines = [_line(row, columns, functions, marks, latest) for row in listed]
    values = {
        "series": [
            Series(name, list(members))
            for name, members in groupby(lines, key=lambda line: ".".join(line.row.version.split(".")[:2]))
        ],
        "lines": lines,
        "overall": _overall(lines),
        "columns": columns,
        "theorems": [
            (theorem, TITLES.get(theorem, ""), len(list(members)))
            for theorem, members in groupby(columns, key=lambda column: column.cell.theorem)
        ],
        "functions": list(zip(functions, marks, strict=True)),
        "differences": [(d, _statuses(d)) for d in differences(listed)],
        "errors": [line for line in lines if line.row.error],
        "queries": sum(row.queries for row in listed),
        "known": sum(row.known for row in listed),
        "cpu": sum(row.cpu for row in listed),
        "memory": max((row.memory for row in listed), default=0),
    }
    return render("sweep.html.j2", values)


def _numbers(version: str) -> list[int]:
    found = "".join(c if c.isdigit() else " " for c in version).split()
    return [int(number) for number in found]


def _columns(rows: Sequence[Row]) -> list[Column]:
    """Return every property that some kernel has, those of one theorem side by side."""
    cells: dict[str, list[Cell]] = {}
    for row in rows:
        for cell in row.properties:
            cells.setdefault(cell.id, []).append(cell)
    runs = sum(not row.error for row in rows)
    columns = []
    for name, members in cells.items():
        counted = Counter(property_status(cell) for cell in members)
        order = sorted(counted.items(), key=lambda item: ("bad", "warn", "good").index(item[0].tone))
        columns.append(Column(members[0], property_anchor(name), order, runs - len(members)))
    return sorted(columns, key=lambda column: column.cell.theorem)


def _line(
    row: Row,
    columns: Sequence[Column],
    functions: Sequence[Shared],
    marks: Sequence[dict[str, str]],
    latest: str,
) -> Line:
    cells = {cell.id: (cell, property_status(cell)) for cell in row.properties}
    own = {function.name: function.sha256 for function in row.functions}
    return Line(
        row,
        label(row),
        _row_status(row),
        [cells.get(column.cell.id) for column in columns],
        [names.get(own.get(function.name, ""), "") for function, names in zip(functions, marks, strict=True)],
        row.tool != latest,
    )


def _row_status(row: Row) -> Status:
    if row.error:
        return status(Verdict.ERROR)
    return run_status(row.properties, row.complete)


def _letters(function: Shared) -> dict[str, str]:
    """Return a name for each content of a function: one letter for all that differ in addresses alone."""
    found = {}
    for index, shape in enumerate(function.shapes):
        letter = _letter(index)
        for number, group in enumerate(shape.groups, 1):
            found[group.digest] = f"{letter}{number}" if len(shape.groups) > 1 else letter
    return found


def _letter(index: int) -> str:
    first, second = divmod(index, 26)
    return (string.ascii_uppercase[first - 1] if first else "") + string.ascii_uppercase[second]


def _statuses(difference: Difference) -> list[tuple[str, list[str]]]:
    return sorted(difference.statuses.items(), key=lambda item: len(item[1]))


@dataclass(frozen=True)
class Overall:
    """The verdict on all kernels: how it is shown, and in one sentence what it means."""

    status: Status
    sentence: str


def _overall(lines: Sequence[Line]) -> Overall:
    """Return the verdict on all kernels: green only if every kernel has every property proved."""
    proved = [line for line in lines if line.status.tone == "good"]
    waived = [line for line in lines if line.status.icon == "waived"]
    bad = [line for line in lines if line.status.tone == "bad" and not line.row.error]
    errors = [line for line in lines if line.row.error]
    unsure = len(lines) - len(proved) - len(waived) - len(bad) - len(errors)
    parts = [
        (len(proved), "with every property proved"),
        (len(waived), "with every property proved, except those that are refuted and waived"),
        (len(bad), "with a property that a concrete run breaks"),
        (unsure, "with something undecided"),
        (len(errors), "that could not be verified"),
    ]
    sentence = "; ".join(
        f"{count} {'kernel' if count == 1 else 'kernels'} {what}" for count, what in parts if count
    )
    worst: Status
    if not lines:
        worst = Status("NOTHING VERIFIED", "warn", "unknown", "There is no row.")
    elif bad:
        worst = status(Verdict.REFUTED)
    elif errors:
        worst = status(Verdict.ERROR)
    elif unsure:
        worst = next(
            line.status for line in lines if line.status.tone == "warn" and line.status.icon != "waived"
        )
    elif waived:
        worst = Status(
            f"{len(lines)} PROVED, except what is waived", "warn", "waived", waived[0].status.meaning
        )
    else:
        worst = Status(f"{len(lines)} PROVED", "good", "proved", proved[0].status.meaning)
    return Overall(worst, f"{sentence}." if sentence else "No kernel was swept.")
