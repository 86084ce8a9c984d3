"""What is not proved, flattened for every format: where, how bad, and in which words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kexec_verify.report.model import PropertyRecord, Run
from kexec_verify.report.source_lines import Lines
from kexec_verify.report.status import Level, function_of, level, status
from kexec_verify.verdict import Verdict


@dataclass(frozen=True)
class Finding:
    """One property that is not proved.

    :param where: symbol+offset/size, or the function alone where no instruction is to blame.
    :param source: ``file:line`` if the target has debug information.
    """

    run: Run
    record: PropertyRecord
    function: str
    where: str
    source: str
    message: str

    @property
    def level(self) -> Level:
        """How bad it is."""
        return level(self.record)

    @property
    def status(self) -> str:
        """The verdict in words."""
        return status(self.record)


def findings(runs: Sequence[Run], lines: Lines | None = None) -> list[Finding]:
    """Return every property that is not proved, the worst first."""
    found = []
    for run in runs:
        for record in run.properties:
            if level(record) is not Level.NONE:
                found.append(_finding(run, record, lines))
    return sorted(found, key=lambda finding: finding.level.rank)


def _finding(run: Run, record: PropertyRecord, lines: Lines | None) -> Finding:
    at, where = _place(record)
    source = lines(run, [at]).get(at, "") if lines and at is not None else ""
    message = record.reason
    if where:
        message = message.removeprefix(f"{where}: ")
    function = function_of(run, record)
    return Finding(run, record, function, where or function, source, message or status(record))


def _place(record: PropertyRecord) -> tuple[int | None, str]:
    """Return address and symbol+offset of the faulty instruction; None and an empty text without one."""
    shown: dict[str, Any] = record.counterexample or {}
    if isinstance(shown.get("at"), int) and isinstance(shown.get("where"), str):
        return shown["at"], shown["where"]
    for obligation in record.obligations:
        if obligation.verdict is not Verdict.PROVED and obligation.where:
            return obligation.at, obligation.where
    return None, ""
