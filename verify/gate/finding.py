"""What is not proved, flattened for every format: where, how bad, and in which words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kexec_verify.report.model import PropertyRecord, Run
from kexec_verify.report.status import Level, function_of, level, status
from kexec_verify.verdict import Verdict

type Lines = Callable[[Run, Iterable[int]], dict[int, str]]
"""``file:line`` of addresses of a run's target, for those of which it is known."""


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
    """Everything that is not proved, the worst first."""
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
    """Address and symbol+offset of the instruction to blame: the counterexample's, or of what fails first."""
    shown: dict[str, Any] = record.counterexample or {}
    if isinstance(shown.get("at"), int) and isinstance(shown.get("where"), str):
        return shown["at"], shown["where"]
    for obligation in record.obligations:
        if obligation.verdict is not Verdict.PROVED and obligation.where:
            return obligation.at, obligation.where
    return None, ""


def source_finder(binary: Path | None = None) -> Lines:
    """Looks lines up in the ELF that a run is of, where it still stands and is the one that was verified."""
    known: dict[str, Path | None] = {}

    def find(run: Run, addresses: Iterable[int]) -> dict[int, str]:
        from kexec_verify.target.source import source_lines

        if run.target.source not in known:
            known[run.target.source] = _same_file(run, binary)
        path = known[run.target.source]
        if path is None:
            return {}
        return {address: _from_here(line) for address, line in source_lines(path, addresses).items()}

    return find


def _from_here(line: str) -> str:
    """``file:line`` with the file relative to where we are, if it is below: annotations want that."""
    path, here = Path(line), Path.cwd()
    return str(path.relative_to(here)) if path.is_absolute() and path.is_relative_to(here) else line


def _same_file(run: Run, binary: Path | None) -> Path | None:
    from kexec_verify.errors import VerifyError
    from kexec_verify.gate.evidence import sha256_of

    path = binary or Path(run.target.source)
    if run.target.format != "elf" or not path.is_file():
        return None
    try:
        return path if sha256_of(path) == run.target.sha256 else None
    except VerifyError:
        return None
