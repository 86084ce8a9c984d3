"""The one module that writes to the terminal: tables on a terminal, a line for each run in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import msgspec
from kexec_verify.cli import interrupt
from kexec_verify.report.model import PropertyRecord, Run
from kexec_verify.report.plain import plain
from kexec_verify.report.status import WAIVED, counts, level, short_waiver, status, style
from kexec_verify.report.times import Cost, costs
from kexec_verify.verdict import BLOCKED, Verdict
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text


class _Doing:
    """What is being done, drawn anew as often as the terminal likes: the time goes on between messages."""

    def __init__(self, name: str, estimate: float | None) -> None:
        self.name = name
        self.estimate = estimate
        self.what = "starting"
        self.started = time.monotonic()

    def __rich__(self) -> Text:
        elapsed = time.monotonic() - self.started
        before = f"; {self.estimate:.0f} s last time" if self.estimate else ""
        shown = f"{plain(self.name)}: {plain(self.what)} ({elapsed:.0f} s{before})"
        return Text(shown, no_wrap=True, overflow="ellipsis")


class Output(Console):
    """A console that leaves the exit status to the command line when nobody reads any more."""

    def on_broken_pipe(self) -> None:
        """Raise, for rich would end the process with status 1, which here means refuted."""
        raise BrokenPipeError


class Terminal:
    """Standard output for results, standard error for progress and errors.

    :param quiet: show no progress.
    :param silent: print no text on standard output, and no notes.
    :param verbose: show the full table of a run also where standard output is no terminal.
    """

    def __init__(self, quiet: bool = False, silent: bool = False, verbose: bool = False) -> None:
        self.out = Output(highlight=False, soft_wrap=True)
        self.err = Output(stderr=True, highlight=False, soft_wrap=True)
        self.quiet = quiet
        self.silent = silent
        self.full = verbose or self.out.is_terminal
        self._doing: _Doing | None = None

    def error(self, message: str, command: str = "") -> None:
        """Print one line: what was expected, what was found, and the command to type next."""
        line = " ".join(message.split()) + (f"; next: {command}" if command else "")
        self.err.print(f"verify: error: {plain(line)}", style="red", markup=False)

    def note(self, text: str) -> None:
        """Print one line on standard error about what is left out and fails nothing."""
        if self.silent:
            return
        self.err.print(f"verify: note: {plain(' '.join(text.split()))}", style="yellow", markup=False)

    def help(self, text: str) -> None:
        """Print the help of a command that lacks an argument, on standard error."""
        self.err.print(text, markup=False)

    def line(self, text: str = "", style: str | None = None) -> None:
        """Print one line of plain text; control characters are shown as escapes."""
        if self.silent:
            return
        self.out.print(plain(text), style=style, markup=False)

    def lines(self, texts: Iterable[str]) -> None:
        """Print several lines of plain text."""
        for text in texts:
            self.line(text)

    def raw(self, text: str) -> None:
        """Write text for a machine: byte for byte, never coloured or wrapped."""
        sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
        sys.stdout.buffer.flush()

    def json(self, value: object) -> None:
        """Write plain data as JSON."""
        self.raw((msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n").decode())

    def decision(self, text: str, exit_status: int) -> None:
        """Print a gate's text, with its first line in the colour of the decision."""
        first, *rest = text.splitlines()
        self.line(first, style={0: "green", 3: "yellow"}.get(exit_status, "bold red"))
        self.lines(rest)

    @contextmanager
    def progress(self, name: str, estimate: float | None = None) -> Iterator[None]:
        """Show what is being done while it lasts, on a terminal only.

        :param estimate: how long it took before, in seconds.
        """
        if self.quiet or not self.err.is_terminal:
            yield
            return
        self._doing = _Doing(name, estimate)
        with self.err.status(self._doing):
            try:
                yield
            finally:
                self._doing = None

    def doing(self, what: str) -> None:
        """Show what is being done now; raise an interrupt again that a library has swallowed."""
        interrupt.check()
        if self._doing is not None:
            self._doing.what = what

    def expect(self, seconds: float | None) -> None:
        """Show how long what is being done took before, in seconds."""
        if self._doing is not None:
            self._doing.estimate = seconds

    def stage(self, what: str) -> None:
        """Show the next part of a long command; in a log, print a line."""
        self.doing(what)
        if not self.quiet and not self.err.is_terminal:
            self.err.print(f"verify: {plain(what)}", markup=False)

    def step(self, done: int, of: int, unit: str) -> None:
        """Show the progress of a long count; in a log, print a line for every hundredth part.

        :param of: how many there are in all.
        :param unit: what is counted, in the plural.
        """
        self.doing(f"{done} of {of}")
        if self.quiet or self.err.is_terminal:
            return
        if done % max(of // 100, 10) == 0 or done == of:
            self.err.print(f"verify: {done} of {of} {plain(unit)}", markup=False)

    def run(self, run: Run, options: str = "") -> None:
        """Print a run: its header and table, or one line in a log; then the reasons of what is not proved.

        :param options: with which ``verify show`` finds the run.
        """
        if self.full:
            self._header(run)
            self._table(run)
        else:
            self.line(_in_a_line(run), style=style(_worst(run.properties)) if run.properties else None)
        # One instruction without a model is the reason of many.
        reasons: dict[str, list[PropertyRecord]] = {}
        for record in run.properties:
            if record.verdict is not Verdict.PROVED:
                reasons.setdefault(_reason(record, options), []).append(record)
        for reason, records in reasons.items():
            more = f" and {len(records) - 1} more" if len(records) > 1 else ""
            verdict = "" if self.full else f"{status(records[0])} "
            self.line(f"  {verdict}{records[0].id}{more}: {reason}", style=style(records[0]))
        for note in run.notes:
            self.line(f"  note: {note}")

    def _header(self, run: Run) -> None:
        target, function = run.target, run.function
        version = f", Linux {target.version}" if target.version else ""
        self.line(f"{target.name}{version}", style="bold")
        self.line(f"  sha256 {target.sha256}")
        variant = (
            f"; ABI variant {function.variant}, {function.page_size // 1024} KiB pages"
            if function.variant
            else ""
        )
        self.line(f"  {function.name} at {function.address:#x}, {function.size} bytes{variant}")

    def _table(self, run: Run) -> None:
        if self.silent:
            return
        cost = costs(run)
        if self.out.is_terminal:
            table = _columns(run, cost, self.out.width)
            self.out.print(table)
            if len(table.columns) < _COLUMNS:
                names = {_solvers(record) for record in run.properties} - {""}
                self.line(f"  solvers: {', '.join(sorted(names))}")
        else:
            for record in run.properties:
                self.line(_row(record, cost[record.id]))
        if any(each.shared for each in cost.values()):
            self.line("  * has queries of a property above, whose time is counted there")
        solvers = sum(each.own for each in cost.values())
        whole = f"the run took {run.seconds:.1f} s"
        self.line(f"  solver time {solvers:.2f} s over all processes; {whole}{_reused(run)}")

    def summary(self, runs: list[Run], seconds: float) -> None:
        """Print the line at the end."""
        records = [record for run in runs for record in run.properties]
        parts = _counted(records)
        if any(not run.complete for run in runs):
            parts.append("incomplete")
        what = f"{len(runs)} target{'s' if len(runs) != 1 else ''}, {len(records)} properties"
        worst = _worst(records) if records else None
        self.line(
            f"{what}: {', '.join(parts) or 'nothing verified'} in {seconds:.1f} s",
            style=style(worst) if worst is not None else "yellow",
        )


_COLUMNS = 5
"""Columns of a run's table on a terminal that is wide enough."""


def _columns(run: Run, cost: Mapping[str, Cost], width: int) -> Table:
    """Return the run's table for a terminal of ``width`` columns.

    A narrow one has no column of solvers. Where a property's name does not fit, it is wrapped: no part of a
    name or a verdict is left out.
    """
    headings = ["  property", "verdict", "obligations", "time", "solvers"]
    rows = [
        [
            f"  {plain(record.id)}",
            status(record),
            _counts(record),
            _time(cost[record.id]),
            _solvers(record),
        ]
        for record in run.properties
    ]
    needed = sum(max(map(len, column)) + 2 for column in zip(headings, *rows, strict=True)) - 2
    shown = len(headings) if needed <= width else len(headings) - 1
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for number, heading in enumerate(headings[:shown]):
        right = heading in ("obligations", "time")
        table.add_column(heading, justify="right" if right else "left", no_wrap=number > 0, overflow="fold")
    for record, cells in zip(run.properties, rows, strict=True):
        texts = [escape(cell) for cell in cells[:shown]]
        texts[1] = f"[{style(record)}]{texts[1]}[/]"
        table.add_row(*texts)
    return table


def _counted(records: list[PropertyRecord]) -> list[str]:
    """Return how many properties have each status, the waived ones with the file of their waiver."""
    found = []
    for name, count in counts(records).items():
        if name != WAIVED:
            found.append(f"{count} {name}")
            continue
        files = [record.waiver.file if record.waiver else "" for record in records if record.waived]
        found += [
            f"{files.count(file)} {Verdict.REFUTED} (waived in {file})" for file in dict.fromkeys(files)
        ]
    return found


def _reason(record: PropertyRecord, options: str) -> str:
    if record.waived:
        file = record.waiver.file if record.waiver is not None else ""
        waived = f"waived in {file}: {short_waiver(record)}"
        return f"{waived}; in full: verify show {record.id}{options}"
    return record.reason


def _counts(record: PropertyRecord) -> str:
    """Return how many obligations are proved; for a property that another one blocks, ``blocked``."""
    if record.reason.startswith(BLOCKED):
        return "blocked"
    proved = sum(o.verdict is Verdict.PROVED for o in record.obligations)
    return f"{proved}/{len(record.obligations)}"


def _solvers(record: PropertyRecord) -> str:
    return " + ".join(sorted({a.solver for o in record.obligations for a in o.answers}, reverse=True))


def _time(cost: Cost) -> str:
    """Return the solver time of the queries that no property above has; a star where there are others."""
    return f"{cost.own:.2f} s{'*' if cost.shared else ' '}"


def _row(record: PropertyRecord, cost: Cost) -> str:
    counted = _counts(record)
    if "/" in counted:
        counted += " obligations"
    return f"  {record.id:<24} {status(record):<16} {counted:>21} {_time(cost):>11} {_solvers(record)}"


def _reused(run: Run) -> str:
    """Return how many queries have an answer of an earlier run, whose time is shown."""
    reused = run.queries.get("reused", 0)
    of = reused + run.queries.get("asked", 0)
    return (
        f"; {reused} of {of} queries are answered from the cache, with the time of that run" if reused else ""
    )


def _worst(records: list[PropertyRecord]) -> PropertyRecord:
    return min(records, key=lambda record: level(record).rank)


def _in_a_line(run: Run) -> str:
    """Return a run in a line for a log: target, how many properties have which verdict, the time."""
    counted = ", ".join(_counted(run.properties))
    version = f" (Linux {run.target.version})" if run.target.version else ""
    alone = ", relocation routine alone" if len(run.functions) <= 1 else ""
    incomplete = ", incomplete" if not run.complete else ""
    found = f"{counted or 'nothing verified'}{alone}{incomplete}"
    return f"{run.target.name}{version}: {found} in {run.seconds:.1f} s"
