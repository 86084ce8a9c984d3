"""Time against the length of the list: this tool, bounded execution, and a bounded model checker.

Each series runs one kind of analysis for longer and longer lists until one takes more than
LIMIT seconds.
"""

from __future__ import annotations

import itertools
import shutil
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.harness import ROOT, Measured, Status, measure

LIMIT = 60.0  # seconds of CPU time
SHORT, REPEATS = 5.0, 3  # what takes less is run as often as this
BINARY = "binaries/kimage-mmu-4k-gcc.elf"
_PYTHON = sys.executable

type Record = dict[str, object]


@dataclass(frozen=True)
class Series:
    """One kind of analysis.

    :param command: for a list of so many pages.
    :param says: what it prints of a success.
    :param proves: what a success means, in one sentence.
    :param first: seconds that the first length may take, where that is the only figure to be had.
    """

    id: str
    label: str
    proves: str
    command: Callable[[int], Sequence[str]]
    says: str
    first: float = LIMIT


def bounded(addresses: str) -> Callable[[int], list[str]]:
    """The command of bounded execution of the shipped routine; ``concrete`` or ``symbolic`` addresses."""
    return lambda pages: [_PYTHON, "-m", "bench.bounded", BINARY, str(pages), addresses]


def cbmc(tool: str, page_size: int, symbolic: bool) -> Callable[[int], list[str]]:
    """The command of cbmc on bench/list_model.c, with exact bounds for each loop, which it checks."""

    def command(pages: int) -> list[str]:
        iterations = {
            "main.0": pages + 1,
            "relocate.0": 64 // 8 + 1,
            "relocate.1": page_size // 64 + 1,
            "relocate.2": pages + 3,
        }
        bounds = ",".join(f"{loop}:{count}" for loop, count in iterations.items())
        defines = ["-D__CPROVER", f"-DPAGE_SIZE={page_size}", f"-DPAGES={pages}"]
        if symbolic:
            defines.append("-DSYMBOLIC")
        # With constant addresses each word of memory is a variable of its own: much faster here.
        split = [] if symbolic else ["--max-field-sensitivity-array-size", "100000000"]
        checks = ["--no-standard-checks", "--unwinding-assertions", "--unwindset", bounds]
        return [tool, "bench/list_model.c", *defines, *checks, *split]

    return command


def series(cbmc_tool: str | None) -> list[Series]:
    """Every series that this machine can run."""
    dest = "each destination page of a list of this length and shape holds what its source page held"
    found = [
        Series(
            "bounded-concrete",
            "bounded execution, one layout",
            f"{dest}; the same bytes, one choice of addresses, any contents",
            bounded("concrete"),
            "holds",
        ),
        Series(
            "bounded-symbolic",
            "bounded execution, any addresses",
            f"{dest}; the same bytes, any addresses, any contents",
            bounded("symbolic"),
            "holds",
            first=240.0,
        ),
    ]
    if cbmc_tool is None:
        return found
    for id, label, size, symbolic in (
        ("cbmc-concrete", "cbmc on a C model, one layout", 4096, False),
        ("cbmc-symbolic", "cbmc on a C model, any addresses", 4096, True),
        ("cbmc-symbolic-64", "cbmc on a C model, any addresses, pages of 64 bytes", 64, True),
    ):
        addresses = "any in memory of just enough pages" if symbolic else "one choice of addresses"
        proves = f"{dest}; a C model, not the bytes; {addresses}; any contents; pages of {size} bytes"
        found.append(Series(id, label, proves, cbmc(cbmc_tool, size, symbolic), "VERIFICATION SUCCESSFUL"))
    return found


def lengths() -> Iterator[int]:
    """1, 2, 3, 4, 8, 16, …"""
    yield from (1, 2, 3)
    yield from (1 << exponent for exponent in itertools.count(2))


def repeated(run: Callable[[], Measured], short: float = SHORT) -> Record:
    """What came of a run, or of several where it is short; the first that fails is the last."""
    runs = [run()]
    while runs[-1].status is Status.DONE and runs[0].cpu < short and len(runs) < REPEATS:
        runs.append(run())
    last = runs[-1]
    point: Record = {"status": last.status, "error": last.error, "output": last.output}
    point["runs"] = [measured.record() for measured in runs]
    for figure in ("cpu", "wall", "memory"):
        values = [getattr(measured, figure) for measured in runs]
        spread = {"min": min(values), "median": statistics.median(values), "max": max(values)}
        point[figure] = {key: round(value, 3) for key, value in spread.items()}
    return point


def points(one: Series, tell: Callable[[str], None], limit: float = LIMIT) -> Iterator[Record]:
    """The series' points, up to the first that is no success or takes longer than ``limit``."""
    for pages in lengths():
        seconds = max(limit, one.first) if pages == 1 else limit
        tell(f"{one.label}: {pages} page{'s' if pages > 1 else ''}")
        point = repeated(lambda s=seconds, n=pages: measure(one.command(n), one.says, s))  # type: ignore[misc]
        yield {"pages": pages, "limit": seconds, **point}
        if point["status"] != Status.DONE or point["cpu"]["median"] > limit:  # type: ignore[index]
            return


def find_cbmc() -> str | None:
    """The command of cbmc: that of the machine, or the one that scripts/bench-tools.sh unpacked."""
    unpacked = ROOT / "build" / "bench-tools" / "cbmc"
    return shutil.which("cbmc") or (str(unpacked) if unpacked.exists() else None)
