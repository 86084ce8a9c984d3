"""Say how a property's verdict is shown: one word, one colour and one severity, the same in every report."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from typing import Protocol

from kexec_verify.report.model import PropertyRecord, Run
from kexec_verify.verdict import Verdict

WAIVED = "REFUTED (waived)"
WHOLE_PATH_TARGET = "whole kexec path"
"""Shown in place of a function for a property that is about the whole kexec path."""


class Decided(Protocol):
    """A property of a run, or of a row in a table of many."""

    @property
    def verdict(self) -> Verdict:
        """Return the verdict."""

    @property
    def waived(self) -> bool:
        """Return whether it is refuted, and a waiver declares all of that."""


class Level(enum.StrEnum):
    """How severe a property's status is for a reader."""

    ERROR = "error"
    """Refuted, or the verifier failed."""
    WARNING = "warning"
    """Undecided: neither proved nor refuted."""
    NOTE = "note"
    """Refuted, and that is a declared deviation."""
    NONE = "none"
    """Proved."""

    @property
    def rank(self) -> int:
        """Return its position from bad to good."""
        return list(Level).index(self)


_LEVELS = {
    Verdict.PROVED: Level.NONE,
    Verdict.REFUTED: Level.ERROR,
    Verdict.ERROR: Level.ERROR,
}
_STYLES = {Level.NONE: "green", Level.NOTE: "dark_orange", Level.WARNING: "yellow", Level.ERROR: "bold red"}


def status(record: Decided) -> str:
    """Return the verdict in words; a waived refutation differs from both a proof and a refutation."""
    return WAIVED if record.waived else str(record.verdict)


def short_waiver(record: PropertyRecord) -> str:
    """Return the first sentence of the reason why the refutation is accepted; empty without a waiver."""
    return re.split(r"[:;.](?:\s|$)", record.waiver.reason)[0] if record.waiver is not None else ""


def level(record: Decided) -> Level:
    """Return how severe the property's status is."""
    return Level.NOTE if record.waived else _LEVELS.get(record.verdict, Level.WARNING)


def style(record: Decided) -> str:
    """Return the terminal's style for the status; amber for a waived refutation."""
    return _STYLES[level(record)]


def counts(records: Iterable[Decided]) -> dict[str, int]:
    """Return how many properties have each status, the good first."""
    order = [*(str(v) for v in Verdict if v is not Verdict.ERROR), WAIVED, str(Verdict.ERROR)]
    found = [status(record) for record in records]
    return {name: found.count(name) for name in order if name in found}


def function_of(run: Run, record: PropertyRecord) -> str:
    """Return the function under which the property is shown."""
    if record.function:
        return record.function
    return run.functions[0].name if len(run.functions) == 1 else WHOLE_PATH_TARGET


def by_function(run: Run) -> dict[str, list[PropertyRecord]]:
    """Return the run's properties by the function under which they are shown, in the run's order."""
    found: dict[str, list[PropertyRecord]] = {}
    for record in run.properties:
        found.setdefault(function_of(run, record), []).append(record)
    return found
