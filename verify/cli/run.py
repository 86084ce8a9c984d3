"""``verify run``: verifies targets and writes their reports."""

from __future__ import annotations

import time
from datetime import UTC, datetime
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
from kexec_verify.cli.result import Failure, Result
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
    undecided; 70 for an internal fault. Ctrl-C and SIGTERM leave a run.json of what is known,
    marked incomplete.
    """
    from kexec_verify.target.debian import in_suite

    terminal = Terminal(quiet or as_json, silent=quiet or as_json, verbose=verbose)
    started = time.monotonic()
    runs: list[tuple[str, Run]] = []
    failures: list[Failure] = []
    interrupt.install()
    options = (seed, jobs, scheduler, recheck, no_cache, waiver_files)
    with Session(terminal, directory, patterns, *options) as session:
        named = [in_suite(target, suite) for target in targets] or corpus_files()
        failures += _unreadable(named, terminal)
        for target in named if not failures else []:
            try:
                runs.append((target, verify_target(target, session)))
            except VerifyError as error:
                failures.append(_told(target, error, terminal))
    if runs:
        from kexec_verify.html.index import write_index

        write_index(directory, terminal.note)
        terminal.summary([run for _, run in runs], time.monotonic() - started)
    result = Result(runs, failures)
    if as_json:
        terminal.json(result.as_data())
    return result.exit_status


def _told(target: str, error: VerifyError, terminal: Terminal) -> Failure:
    terminal.error(str(error), advice.after(error))
    return Failure(target, str(error), error.exit_code)


def _unreadable(targets: list[str], terminal: Terminal) -> list[Failure]:
    """Return those of several targets that cannot be opened; each error is printed.

    One target is opened when it is verified. An error that is no bad input is left to that, too.
    """
    from kexec_verify.kexec.locate import find_routine
    from kexec_verify.target import open_target

    failures = []
    for target in targets if len(targets) > 1 else []:
        with terminal.progress(target):
            terminal.doing("opening")
            try:
                find_routine(open_target(target))
            except VerifyError as error:
                if error.exit_code == TargetError.exit_code:
                    failures.append(_told(target, error, terminal))
    return failures


def verify_target(target: str, session: Session) -> Run:
    """One target's run: proved, or shown as an earlier run of the same bytes found it.

    :raises VerifyError: if the target cannot be had, or the report cannot be written.
    """
    from kexec_verify.target import locate_target, read_target

    target = locate_target(target)
    terminal = session.terminal
    with terminal.progress(target):
        terminal.doing("opening")
        data, name = read_target(target)
        place = session.place(name)
        require_own(place)
        found = session.finished(data, target, place)
        if found is not None:
            from kexec_verify.report.read import decode_run

            run, lines = decode_run(found.files[RUN], str(place / RUN)), found.lines
            terminal.doing("writing the report")
            with interrupt.deferred():
                if not is_saved(found.files, place):
                    require_writable(session.directory)
                    save(found.files, place)
        else:
            run, lines = _prove(data, target, name, place, session)
    terminal.run(run, session.elsewhere)
    terminal.lines(lines)
    if found is not None:
        terminal.line(f"  cached result from {run.started}; --recheck proves it again")
    _tell_where(run, place, session)
    return run


def _prove(data: bytes, target: str, name: str, place: Path, session: Session) -> tuple[Run, list[str]]:
    """A run, its report written; and what is to be shown of its counterexample."""
    began = datetime.now(UTC)
    terminal = session.terminal
    from kexec_verify.kexec.locate import find_routine
    from kexec_verify.target import load_kernel

    kernel = load_kernel(data, target, name)
    function = find_routine(kernel)
    require_writable(session.directory)
    terminal.expect(earlier_seconds(place))
    terminal.doing("loading the engine")
    # From here on an interrupt finds enough to write a report of.
    with interrupt.deferred():
        from kexec_verify.arm64.lift import Code
        from kexec_verify.kernel_proof import prove_kernel
        from kexec_verify.kexec.composition import has_whole_path
        from kexec_verify.report.partial import Partial
        from kexec_verify.report.record import record, report_files
        from kexec_verify.undecided import account

        code = Code(function.name, function.address, function.code)
        discharger = session.discharger()
        whole = has_whole_path(kernel)
        partial = Partial(code, session.claims, discharger, whole)
    try:
        outcome = prove_kernel(
            kernel,
            function,
            session.claims,
            terminal.doing,
            discharger,
            partial.known,
            session.waivers,
        )
        account(outcome, session.claims, session.patterns, whole)
        run = record(kernel, function, outcome, began, session.queries())
    except interrupt.Interrupted as stop:
        with interrupt.deferred():
            outcome = partial.outcome()
            run = partial.incomplete(record(kernel, function, outcome, began))
            stop.written = save(report_files(run, outcome), place)
        raise
    terminal.doing("writing the report")
    with interrupt.deferred():
        from kexec_verify.html.index import PAGE
        from kexec_verify.html.write import fresh_page, remember

        files = report_files(run, outcome, {PAGE: fresh_page(run, place)})
        save(files, place)
        remember(run, place)
        lines = _counterexample(outcome, target if kernel.format == "elf" else None)
        session.keep(data, target, place, run, files, lines)
    return run, lines


def _counterexample(outcome: Outcome, elf: str | None) -> list[str]:
    """The first counterexample of a run, for a terminal.

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
    """Where the report is, and what to type next where not all is proved."""
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
