"""sweep.json: the result for each kernel of a set, and which of their functions are the same."""

from __future__ import annotations

import msgspec
from kexec_verify.verdict import Verdict, join

SCHEMA = 1
FILE = "sweep.json"
PAGE = "sweep.html"


class Cell(msgspec.Struct, frozen=True):
    """One property of one kernel; solver time in seconds."""

    id: str
    theorem: str
    statement: str
    function: str
    verdict: Verdict
    waived: bool
    reason: str
    obligations: int
    seconds: float


class Function(msgspec.Struct, frozen=True):
    """One function that the proofs of a kernel are about.

    :param sha256: of its bytes; ``unplaced`` of the same without addresses.
    """

    name: str
    address: int
    size: int
    sha256: str
    unplaced: str


class Row(msgspec.Struct, frozen=True):
    """One kernel.

    :param name: of its report's directory.
    :param archive: SHA-256 of the package, as apt's lists promise it.
    :param tool: digest of the tool that ran.
    :param finished: when (UTC, ISO 8601).
    :param error: why there is no run, or an empty string; ``exit_status`` is what that is worth.
    :param run: SHA-256 of the run.json that the row was made from.
    :param seconds: of the clock; ``cpu`` of the processor, ``memory`` in MiB at the peak.
    :param queries: distinct queries of its obligations; an earlier kernel has ``known`` of them too.
    :param asked: queries that went to solvers, including those that look for invariants.
    """

    name: str
    package: str
    version: str
    flavour: str
    archive: str
    tool: str
    finished: str
    error: str = ""
    exit_status: int = 0
    run: str = ""
    complete: bool = False
    kernel: str = ""
    sha256: str = ""
    seconds: float = 0.0
    cpu: float = 0.0
    memory: int = 0
    queries: int = 0
    known: int = 0
    asked: int = 0
    properties: list[Cell] = []
    functions: list[Function] = []

    @property
    def verdict(self) -> Verdict:
        """The worst of its properties, a waived one left out; ERROR without a run."""
        if self.error:
            return Verdict.ERROR
        return join(cell.verdict for cell in self.properties if not cell.waived)


class Sweep(msgspec.Struct, frozen=True):
    """Every kernel that was swept into one reports' directory."""

    schema: int
    rows: list[Row]


def exit_status(rows: list[Row]) -> int:
    """Return the exit status: the same as that of ``verify run`` with all these kernels."""
    found = {row.exit_status if row.error else row.verdict.exit_status for row in rows}
    found |= {3 for row in rows if not row.error and not row.complete}
    # An internal fault outranks all, a refutation outranks bad input, bad input an undecided claim.
    return next((status for status in (70, 1, 2, 3) if status in found), 0)
