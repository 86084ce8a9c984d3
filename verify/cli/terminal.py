"""The one module that writes to the terminal: tables when it is one, plain lines when piped."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import msgspec
from kexec_verify.cli import interrupt
from kexec_verify.report.model import PropertyRecord, Run
from kexec_verify.report.plain import plain
from kexec_verify.report.status import counts, level, short_waiver, status, style
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
        return Text(f"{plain(self.name)}: {plain(self.what)} ({elapsed:.0f} s{before})")


class Output(Console):
    """A console that leaves the exit status to the command line when nobody reads any more."""

    def on_broken_pipe(self) -> None:
        """Raise, for rich would end the process with status 1, which here means refuted."""
        raise BrokenPipeError


class Terminal:
    """Standard output for results, standard error for progress and errors."""

    def __init__(self, quiet: bool = False) -> None:
        self.out = Output(highlight=False, soft_wrap=True)
        self.err = Output(stderr=True, highlight=False, soft_wrap=True)
        self.quiet = quiet
        self._doing: _Doing | None = None

    def error(self, message: str, command: str = "") -> None:
        """One line that says what was expected and what was found, and the command to type next."""
        line = " ".join(message.split()) + (f"; next: {command}" if command else "")
        self.err.print(f"verify: error: {plain(line)}", style="red", markup=False)

    def note(self, text: str) -> None:
        """One line, where errors go, on what is left out and fails nothing."""
        self.err.print(f"verify: note: {plain(' '.join(text.split()))}", style="yellow", markup=False)

    def help(self, text: str) -> None:
        """The help of a command that was typed without what it needs, where errors go."""
        self.err.print(text, markup=False)

    def line(self, text: str = "", style: str | None = None) -> None:
        """One line of plain text; what a terminal would obey is shown as an escape."""
        self.out.print(plain(text), style=style, markup=False)

    def lines(self, texts: Iterable[str]) -> None:
        """Several lines of plain text."""
        for text in texts:
            self.line(text)

    def raw(self, text: str) -> None:
        """Text for a machine: byte for byte, never coloured or wrapped."""
        sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
        sys.stdout.buffer.flush()

    def json(self, value: object) -> None:
        """Plain data as JSON, for a script."""
        self.raw((msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n").decode())

    def decision(self, text: str, exit_status: int) -> None:
        """A gate's text; its first line in the colour of the decision."""
        first, *rest = text.splitlines()
        self.line(first, style={0: "green", 3: "yellow"}.get(exit_status, "bold red"))
        self.lines(rest)

    @contextmanager
    def progress(self, name: str, estimate: float | None = None) -> Iterator[None]:
        """Shows what is being done while it lasts, on a terminal only.

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
        """Progress: what is being done now; here an interrupt that a library swallowed is raised again."""
        interrupt.check()
        if self._doing is not None:
            self._doing.what = what

    def expect(self, seconds: float | None) -> None:
        """How long what is being done took before, once that is known."""
        if self._doing is not None:
            self._doing.estimate = seconds

    def run(self, run: Run, options: str = "") -> None:
        """A target's header, table of properties, and reasons.

        :param options: with which ``verify show`` finds the run.
        """
        target, function = run.target, run.function
        version = f", Linux {target.version}" if target.version else ""
        self.line(f"{target.name}{version}", style="bold")
        self.line(f"  sha256 {target.sha256}")
        variant = (
            f"; form {function.variant}, {function.page_size // 1024} KiB pages" if function.variant else ""
        )
        self.line(f"  {function.name} at {function.address:#x}, {function.size} bytes{variant}")
        if self.out.is_terminal:
            self._table(run.properties)
        else:
            for record in run.properties:
                self.line(_row(record))
        # One instruction without a model is the reason of many.
        reasons: dict[str, list[PropertyRecord]] = {}
        for record in run.properties:
            if record.verdict is not Verdict.PROVED:
                reasons.setdefault(_reason(record, options), []).append(record)
        for reason, records in reasons.items():
            more = f" and {len(records) - 1} more" if len(records) > 1 else ""
            self.line(f"  {records[0].id}{more}: {reason}", style=style(records[0]))
        for note in run.notes:
            self.line(f"  note: {note}")

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
                f"  {escape(plain(record.id))}",
                f"[{style(record)}]{status(record)}[/]",
                _counts(record),
                f"{record.seconds:.2f} s",
                _solvers(record),
            )
        self.out.print(table)

    def summary(self, runs: list[Run], seconds: float) -> None:
        """The line at the end."""
        records = [record for run in runs for record in run.properties]
        parts = [f"{count} {name}" for name, count in counts(records).items()]
        if any(not run.complete for run in runs):
            parts.append("incomplete")
        what = f"{len(runs)} target{'s' if len(runs) != 1 else ''}, {len(records)} properties"
        worst = min(records, key=lambda r: level(r).rank, default=None)
        self.line(
            f"{what}: {', '.join(parts) or 'nothing verified'} in {seconds:.1f} s",
            style=style(worst) if worst is not None else "yellow",
        )


def _reason(record: PropertyRecord, options: str) -> str:
    if record.waived:
        file = record.waiver.file if record.waiver is not None else ""
        told = f"waived in {file}: {short_waiver(record)}"
        return f"{told}; in full: verify show {record.id}{options}"
    return record.reason


def _counts(record: PropertyRecord) -> str:
    """How many obligations are proved; of a property that only another one blocks, that says too much."""
    if record.reason.startswith(BLOCKED):
        return "blocked"
    proved = sum(o.verdict is Verdict.PROVED for o in record.obligations)
    return f"{proved}/{len(record.obligations)}"


def _solvers(record: PropertyRecord) -> str:
    return " + ".join(sorted({a.solver for o in record.obligations for a in o.answers}, reverse=True))


def _row(record: PropertyRecord) -> str:
    counted = _counts(record)
    if "/" in counted:
        counted += " obligations"
    return (
        f"  {record.id:<24} {status(record):<16} {counted:>21} {record.seconds:>7.2f} s  {_solvers(record)}"
    )
