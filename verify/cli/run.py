"""``verify run``: verify targets and write their reports."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
from kexec_verify.cli import advice, interrupt
from kexec_verify.cli.completion import complete_property
from kexec_verify.cli.options import (
    format_option,
    jobs_option,
    number_option,
    reports_option,
    scheduler_option,
    suite_option,
    waivers_option,
)
from kexec_verify.cli.result import Failure, Result, interrupted
from kexec_verify.cli.session import Session
from kexec_verify.cli.terminal import Terminal
from kexec_verify.errors import TargetError, VerifyError
from kexec_verify.report.model import Run
from kexec_verify.report.place import require_writable
from kexec_verify.report.read import earlier_seconds
from kexec_verify.report.save import RUN, is_saved, require_own, save
from kexec_verify.shipped import corpus_files
from kexec_verify.verdict import Verdict

if TYPE_CHECKING:
    from kexec_verify.cache.runs import Finished
    from kexec_verify.kexec.locate import Function
    from kexec_verify.target import Kernel
    from kexec_verify.theorems import Outcome


@click.command()
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option(
    "--property",
    "patterns",
    multiple=True,
    metavar="GLOB",
    shell_complete=complete_property,
    help="Verify only these properties; repeatable.",
)
@suite_option("Debian suite of the debian: targets that name none, such as trixie-backports.")
@reports_option("Directory that run.json and its page are written under.")
@jobs_option("Processes for the solvers; 0 is one for each core, 1 is this process.")
@scheduler_option
@click.option("--recheck", is_flag=True, help="Ignore cached results and prove everything again.")
@click.option("--no-cache", is_flag=True, help="Do not read or write the cache.")
@number_option("--seed", 0, "Random seed for the solvers. No verdict depends on it.")
@waivers_option
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option(
    "-v", "--verbose", is_flag=True, help="Print the full table also where the output is no terminal."
)
@format_option
def run(
    targets: tuple[str, ...],
    patterns: tuple[str, ...],
    suite: str | None,
    directory: Path,
    jobs: int,
    scheduler: str | None,
    recheck: bool,
    no_cache: bool,
    seed: int,
    waiver_files: tuple[Path, ...],
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> int:
    """Verify each TARGET: a vmlinux, an Image or vmlinuz, a folder with a built kernel, a .deb or .rpm
    file, - for standard input, or debian:PACKAGE[=VERSION][/SUITE].

    Without a TARGET: the binaries that ship with the tool.

    With several targets each is opened before the first is proved. If one cannot be read, nothing
    is proved.

    On a terminal all properties are listed. Elsewhere, such as in a CI log, there is a line for each
    target and for each reason that a property is not PROVED. With --format json standard output is one
    JSON document: targets, their verdicts and the exit status with its meaning.

    Results are cached: a target that did not change is not proved again, and for one that did
    only new queries go to the solvers. See `verify cache`.

    Exit status: 0 if every property is PROVED, or REFUTED and waived; 1 if a property is
    REFUTED and not waived; 2 for a usage error or bad input; 3 if a property is
    undecided; 70 for an internal fault; 130 for Ctrl-C and 143 for SIGTERM, which leave a run.json of
    what is known, marked incomplete.
    """
    from kexec_verify.target.debian import in_suite

    terminal = Terminal(quiet or as_json, silent=quiet or as_json, verbose=verbose)
    started = time.monotonic()
    runs: list[tuple[str, Run]] = []
    failures: list[Failure] = []
    named: list[str] = []
    interrupt.install()
    options = (seed, jobs, scheduler, recheck, no_cache, waiver_files)
    try:
        with Session(terminal, directory, patterns, *options) as session:
            named += [in_suite(target, suite) for target in targets] or corpus_files()
            opened = _opened(named, session, failures)
            for target in named:
                try:
                    if target in opened:
                        runs.append((target, verify_opened(opened.pop(target), session)))
                except VerifyError as error:
                    failures.append(_failed(target, error, terminal))
    except interrupt.Interrupted as stop:
        if as_json:
            with interrupt.deferred():
                terminal.json(interrupted(named, runs, failures, stop).as_data())
        raise
    if runs:
        from kexec_verify.html.index import write_index

        write_index(directory, terminal.note)
        terminal.summary([run for _, run in runs], time.monotonic() - started)
    result = Result(runs, failures)
    if as_json:
        terminal.json(result.as_data())
    return result.exit_status


def _failed(target: str, error: VerifyError, terminal: Terminal) -> Failure:
    """Print the error, and return it as the target's result."""
    terminal.error(str(error), advice.after(error))
    return Failure(target, str(error), error.exit_code)


@dataclass(frozen=True)
class Opened:
    """A target that was read.

    :param target: as the user typed it; of a folder, the path of its kernel.
    :param sha256: of the kernel's file.
    :param place: folder of its report.
    :param opening: the time that it took to read it.
    :param loaded: the kernel and its relocation routine; None if ``finished`` is the run of an earlier
        command.
    """

    target: str
    sha256: str
    place: Path
    opening: timedelta
    loaded: tuple[Kernel, Function] | None
    finished: Finished | None


def open_for(target: str, session: Session) -> Opened:
    """Read a target, and look for an earlier run of it.

    :raises VerifyError: it cannot be read, has no relocation routine, or its report cannot be written.
    """
    from kexec_verify.kexec.locate import find_routine
    from kexec_verify.target import load_kernel, locate_target, read_target

    started = datetime.now(UTC)
    with session.terminal.progress(target):
        session.terminal.doing("opening")
        located = locate_target(target)
        data, name = read_target(located)
        sha256 = hashlib.sha256(data).hexdigest()
        place = session.place(name, located)
        require_own(place)
        found = session.finished(sha256, located, place)
        if found is not None:
            return Opened(located, sha256, place, datetime.now(UTC) - started, None, found)
        kernel = load_kernel(data, located, name)
        loaded = kernel, find_routine(kernel)
        return Opened(located, sha256, place, datetime.now(UTC) - started, loaded, None)


def _opened(named: list[str], session: Session, failures: list[Failure]) -> dict[str, Opened]:
    """Open each target once; return them by name, and none if one of them is bad input.

    :param failures: gets those that cannot be opened; each error is printed.
    """
    opened = {}
    for target in dict.fromkeys(named):
        try:
            opened[target] = open_for(target, session)
        except VerifyError as error:
            failures.append(_failed(target, error, session.terminal))
    return {} if any(each.exit_status == TargetError.exit_code for each in failures) else opened


def verify_opened(opened: Opened, session: Session) -> Run:
    """Return a target's run: proved, or as an earlier run of the same bytes found it.

    :raises VerifyError: the verifier cannot do it, or the report cannot be written.
    """
    from kexec_verify.report.live_record import read_live
    from kexec_verify.report.live_verdicts import with_live

    terminal, place, found = session.terminal, opened.place, opened.finished
    with terminal.progress(opened.target):
        if found is not None:
            from kexec_verify.report.read import decode_run

            run, lines = decode_run(found.files[RUN], str(place / RUN)), found.lines
            terminal.doing("writing the report")
            with interrupt.deferred():
                if not is_saved(found.files, place):
                    require_writable(session.directory)
                    save(found.files, place)
        else:
            run, lines = _prove(opened, session)
    run = with_live(run, read_live(place, run.target.sha256))
    terminal.run(run, session.elsewhere)
    terminal.lines(lines)
    if found is not None:
        terminal.line(f"  cached result from {run.started}; --recheck proves it again")
    _tell_where(run, place, session)
    return run


def _prove(opened: Opened, session: Session) -> tuple[Run, list[str]]:
    """Prove a target and write its report; return the run, and its counterexample as lines of text."""
    terminal, place = session.terminal, opened.place
    assert opened.loaded is not None
    kernel, routine = opened.loaded
    require_writable(session.directory)
    terminal.expect(earlier_seconds(place))
    terminal.doing("loading the engine")
    # From here on an interrupt finds enough to write a report of.
    with interrupt.deferred():
        from kexec_verify.verification import Verification, write_report

        verification = Verification(
            kernel,
            routine,
            session.claims,
            session.patterns,
            session.waivers,
            session.discharger(),
            # Other targets were proved since this one was opened.
            datetime.now(UTC) - opened.opening,
        )
    try:
        run, outcome = verification.prove(terminal.doing, session.queries)
    except interrupt.Interrupted as stop:
        with interrupt.deferred():
            stop.written = verification.save_partial(place)
        raise
    terminal.doing("writing the report")
    with interrupt.deferred():
        files = write_report(run, outcome, place, terminal.note)
        lines = _counterexample(outcome, opened.target if kernel.format == "elf" else None)
        session.keep(opened.sha256, opened.target, place, run, files, lines)
    return run, lines


def _counterexample(outcome: Outcome, elf: str | None) -> list[str]:
    """Return the first counterexample of a run, for a terminal.

    :param elf: the file that may know source lines.
    """
    from kexec_verify.report.replay import in_lines
    from kexec_verify.target.source import source_line

    unwaived = (finding.counterexample for finding in outcome.findings if finding.waiver is None)
    shown = next((counterexample for counterexample in unwaived if counterexample is not None), None)
    if shown is None:
        return []
    line = source_line(Path(elf), shown.at) if elf is not None else None
    source = [f"  source   {line}"] if line is not None else []
    return ["", *in_lines(shown), *source, "  replayed: confirmed", ""]


def _tell_where(run: Run, place: Path, session: Session) -> None:
    """Print where the report is, and what to type next where not all is proved."""
    from kexec_verify.html.index import PAGE

    terminal, path = session.terminal, place / RUN
    if terminal.full:
        terminal.line(f"  {path}")
    terminal.line(f"  {path.with_name(PAGE)}")
    if run.verdict is Verdict.REFUTED:
        terminal.line(f"  next: verify replay {path}")
    elif run.verdict is not Verdict.PROVED:
        worst = max(run.properties, key=lambda record: (not record.waived, record.verdict.rank))
        terminal.line(f"  next: verify show {worst.id}{session.elsewhere}")
    if terminal.full:
        terminal.line()
