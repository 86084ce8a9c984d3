"""The one module that writes to the terminal: tables when it is one, plain lines when piped."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from verify.report.model import PropertyRecord, Run
from verify.verdict import Verdict

_STYLE = {
    Verdict.PROVED: "green",
    Verdict.REFUTED: "bold red",
    Verdict.UNKNOWN: "yellow",
    Verdict.VACUOUS: "yellow",
    Verdict.UNSUPPORTED: "yellow",
    Verdict.ERROR: "bold red",
}


class Terminal:
    """Standard output for results, standard error for progress and errors."""

    def __init__(self, quiet: bool = False) -> None:
        self.out = Console(highlight=False, soft_wrap=True)
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)
        self.quiet = quiet
        self._status: Status | None = None
        self._started = time.monotonic()

    def error(self, message: str) -> None:
        """One line that says what was expected and what was found."""
        line = " ".join(message.split())
        self.err.print(f"verify: error: {line}", style="red", markup=False)

    def line(self, text: str = "", style: str | None = None) -> None:
        """One line of plain text."""
        self.out.print(text, style=style, markup=False)

    def lines(self, texts: Iterable[str]) -> None:
        """Several lines of plain text."""
        for text in texts:
            self.line(text)

    @contextmanager
    def progress(self, name: str) -> Iterator[None]:
        """Shows what is being done while it lasts, on a terminal only."""
        if self.quiet or not self.err.is_terminal:
            yield
            return
        self._started = time.monotonic()
        with self.err.status(f"{name}: starting") as status:
            self._status = status
            self._name = name
            try:
                yield
            finally:
                self._status = None

    def doing(self, what: str) -> None:
        """Progress: what is being done now."""
        if self._status is not None:
            elapsed = time.monotonic() - self._started
            self._status.update(f"{escape(self._name)}: {escape(what)} ({elapsed:.0f} s)")

    def run(self, run: Run) -> None:
        """A target's header, table of properties, and reasons."""
        target, function = run.target, run.function
        version = f", Linux {target.version}" if target.version else ""
        self.line(f"{target.name}{version}", style="bold")
        self.line(f"  sha256 {target.sha256}")
        form = f"; form {function.form}, {function.page_size // 1024} KiB pages" if function.form else ""
        self.line(f"  {function.name} at {function.address:#x}, {function.size} bytes{form}")
        if self.out.is_terminal:
            self._table(run.properties)
        else:
            for record in run.properties:
                self.line(_row(record))
        for record in run.properties:
            if record.verdict is not Verdict.PROVED:
                self.line(f"  {record.id}: {record.reason}", style=_STYLE[record.verdict])

    def _table(self, properties: list[PropertyRecord]) -> None:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading, justify in (
            ("  property", "left"),
            ("verdict", "left"),
            ("obligations", "right"),
            ("time", "right"),
            ("solver", "left"),
        ):
            table.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        for record in properties:
            table.add_row(
                f"  {record.id}",
                f"[{_STYLE[record.verdict]}]{record.verdict}[/]",
                _counts(record),
                f"{record.seconds:.2f} s",
                _solvers(record),
            )
        self.out.print(table)

    def summary(self, runs: list[Run], seconds: float) -> None:
        """The line at the end."""
        records = [record for run in runs for record in run.properties]
        counts = {verdict: sum(r.verdict is verdict for r in records) for verdict in Verdict}
        parts = [f"{count} {verdict}" for verdict, count in counts.items() if count]
        what = f"{len(runs)} target{'s' if len(runs) != 1 else ''}, {len(records)} properties"
        worst = max((r.verdict for r in records), key=lambda v: v.rank, default=Verdict.UNKNOWN)
        self.line(f"{what}: {', '.join(parts) or 'nothing verified'} in {seconds:.1f} s", style=_STYLE[worst])


def _counts(record: PropertyRecord) -> str:
    proved = sum(o.verdict is Verdict.PROVED for o in record.obligations)
    return f"{proved}/{len(record.obligations)}"


def _solvers(record: PropertyRecord) -> str:
    return " + ".join(sorted({a.solver for o in record.obligations for a in o.answers}, reverse=True))


def _row(record: PropertyRecord) -> str:
    return (
        f"  {record.id:<24} {record.verdict:<11} {_counts(record):>9} obligations "
        f"{record.seconds:>7.2f} s  {_solvers(record)}"
    )
