"""Find the source lines of a run's instructions in the binary that was verified."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from kexec_verify.files import file_sha256
from kexec_verify.report.model import Run

type Lines = Callable[[Run, Iterable[int]], dict[int, str]]
"""``file:line`` of addresses of a run's target, for those of which it is known."""


def source_finder(binary: Path | None = None) -> Lines:
    """Return a function that looks lines up in a run's binary, if that is still the file that was verified.

    :param binary: the binary's path now; None for the path that the run has.
    """
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
    """Return ``file:line`` relative to the working directory if the file is below it, for annotations."""
    path, here = Path(line), Path.cwd()
    return str(path.relative_to(here)) if path.is_absolute() and path.is_relative_to(here) else line


def _same_file(run: Run, binary: Path | None) -> Path | None:
    path = binary or Path(run.target.source)
    if run.target.format != "elf":
        return None
    try:
        return path if path.is_file() and file_sha256(path) == run.target.sha256 else None
    except OSError:  # also a name that is too long
        return None
