"""``verify sweep``: verify every kernel that the machine's apt knows."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kexec_verify.cli import interrupt
from kexec_verify.cli.options import format_option, quiet_option, reports_option, suite_option, waivers_option
from kexec_verify.cli.terminal import Output, Terminal
from kexec_verify.errors import TargetError
from kexec_verify.report.status import counts, level, style

if TYPE_CHECKING:
    from kexec_verify.cli.session import Session
    from kexec_verify.sweep.model import Row
    from kexec_verify.sweep.run import Job
    from kexec_verify.target.debian import Package

# What a process keeps from one kernel to the next: equal queries are sent once.
_sessions: dict[Path, Session] = {}


@click.command()
@click.argument("globs", nargs=-1, metavar="[GLOB]...")
@click.option("--list", "only_list", is_flag=True, help="List the kernels and verify none.")
@click.option(
    "-j",
    "--jobs",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Number of kernels to verify at once.",
)
@suite_option("Debian suite to verify in the place of the host's own; repeatable.", multiple=True)
@waivers_option
@reports_option("Directory that the runs, sweep.json and sweep.html are written under.")
@format_option
@quiet_option
def sweep(
    globs: tuple[str, ...],
    only_list: bool,
    jobs: int,
    suites: tuple[str, ...],
    waiver_files: tuple[Path, ...],
    directory: Path,
    as_json: bool,
    quiet: bool,
) -> int:
    """Verify every arm64 kernel in the suites that the machine's apt knows, or in
    each --suite, or those that a GLOB matches.

    A GLOB is matched with the package's name, with that without "linux-image-", and with its version:
    '6.12*', '*cloud*'. Each kernel is fetched, verified as by `verify run`, and dropped again. One that
    fails has a row of its own. One that this tool has finished before, with the same waivers, is not
    proved again: a sweep that was interrupted goes on where it stopped.

    Exit status: as of `verify run` with all these kernels.
    """
    from kexec_verify.sweep.choose import chosen, targets
    from kexec_verify.target.debian import images

    terminal = Terminal(quiet)
    known = images(suites)
    packages = chosen(known, globs)
    named = targets(packages, known)
    if only_list:
        _list(terminal, packages, named, as_json)
        return 0
    return _sweep(terminal, named, jobs, waiver_files, directory, as_json)


def _list(terminal: Terminal, packages: Sequence[Package], named: dict[Package, str], as_json: bool) -> None:
    if as_json:
        from dataclasses import asdict

        terminal.json([{"target": named[p], **asdict(p), "flavour": p.flavour} for p in packages])
        return
    for package in packages:
        size = f"{package.size / 2**20:>5.1f} MiB"
        terminal.line(f"{named[package]:<52} {package.version:<24} {package.flavour:<12} {size}")
    total = sum(package.size for package in packages)
    terminal.line(f"{len(packages)} kernels, {total / 2**30:.1f} GiB to fetch, one at a time")


def _sweep(
    terminal: Terminal,
    named: dict[Package, str],
    jobs: int,
    waiver_files: tuple[Path, ...],
    directory: Path,
    as_json: bool,
) -> int:
    from kexec_verify.html.index import write_index
    from kexec_verify.html.sweep import write_sweep
    from kexec_verify.report.place import require_writable
    from kexec_verify.sweep.model import exit_status
    from kexec_verify.sweep.run import sweep as swept

    tool = _tool(waiver_files)
    require_writable(directory)
    interrupt.install()
    started = time.monotonic()
    rows: list[Row] = []
    try:
        found = swept(named, directory, tool, prove, jobs, interrupt.install, waiver_files)
        with terminal.progress("sweep"), closing(found):
            terminal.doing(f"0 of {len(named)}")
            for row in found:
                rows.append(row)
                if not as_json:
                    terminal.line(f"[{len(rows)}/{len(named)}] {_line(row)}", style=_style(row))
                terminal.doing(f"{len(rows)} of {len(named)}")
                write_sweep(directory)
    except interrupt.Interrupted as stop:
        with interrupt.deferred():
            stop.written = write_sweep(directory)
            write_index(directory)
        raise
    page = write_sweep(directory)
    write_index(directory)
    if as_json:
        terminal.json(_as_json(rows))
    else:
        _summary(terminal, rows, time.monotonic() - started)
        terminal.line(f"  {page}")
    return exit_status(rows)


def _tool(waiver_files: tuple[Path, ...]) -> str:
    """Return the digest of the tool and of the user's waivers: a row of another digest is not reused.

    :raises UsageError: a file holds no waivers.
    """
    from kexec_verify.digest import tool_digest
    from kexec_verify.waivers import read_all_waivers

    waivers = [repr(waiver) for waiver in read_all_waivers(waiver_files)]
    if not waivers:
        return tool_digest()
    return hashlib.sha256("\0".join([tool_digest(), *waivers]).encode()).hexdigest()


def prove(job: Job) -> Row:
    """Verify one kernel as ``verify run`` does, in a process of a sweep.

    :raises VerifyError: if it cannot be had, or the verifier cannot do it.
    """
    from kexec_verify.cli.run import open_for, verify_opened
    from kexec_verify.cli.session import Session
    from kexec_verify.report.save import RUN
    from kexec_verify.sweep.rows import Cost, row_of
    from kexec_verify.sweep.workers import peak
    from kexec_verify.target.debian import is_cached

    if job.reports not in _sessions:
        terminal = Terminal(quiet=True)
        terminal.out = Output(quiet=True)  # the command that started this process says what came of it
        _sessions[job.reports] = Session(terminal, job.reports, jobs=1, waiver_files=job.waivers)
    began = time.process_time()
    opened = open_for(job.target, _sessions[job.reports])
    run = verify_opened(opened, _sessions[job.reports])
    if not is_cached(job.package):
        raise TargetError(f"{job.target}: expected version {job.package.version}, found another in the lists")
    return row_of(job.package, job.tool, run, opened.place / RUN, Cost(time.process_time() - began, peak()))


def _line(row: Row) -> str:
    if row.error:
        return f"{row.package} {row.version}: ERROR: {row.error}"
    found = ", ".join(f"{count} {name}" for name, count in counts(row.properties).items())
    shared = f"{row.known} of {row.queries} queries known from an earlier kernel"
    return f"{row.package} {row.version}: {found}; {row.cpu:.1f} s CPU, {shared}"


def _style(row: Row) -> str:
    if row.error:
        return "bold red"
    worst = max(row.properties, key=lambda cell: level(cell).rank, default=None)
    return style(worst) if worst is not None and row.complete else "yellow"


def _summary(terminal: Terminal, rows: Sequence[Row], seconds: float) -> None:
    from kexec_verify.sweep.compare import differences, shared

    runs = [row for row in rows if not row.error]
    terminal.line()
    terminal.line("functions:")
    for function in shared(runs):
        terminal.line(
            f"  {function.name:<32} kernels {function.kernels:>3}, contents {function.contents:>3}, "
            f"without addresses {len(function.shapes):>3}"
        )
    terminal.line("verdicts that differ:" if (found := differences(runs)) else "verdicts that differ: none")
    for difference in found:
        parts = ", ".join(f"{status} in {len(names)}" for status, names in difference.statuses.items())
        terminal.line(f"  {difference.id}: {parts}")
    listed = counts(cell for row in rows for cell in row.properties)
    parts = ", ".join(f"{count} {name}" for name, count in listed.items()) or "nothing verified"
    failed = f", {len(rows) - len(runs)} not verified" if len(runs) < len(rows) else ""
    known, queries = sum(row.known for row in rows), sum(row.queries for row in rows)
    shared_queries = f"{known} of {queries} queries known from an earlier kernel"
    terminal.line(
        f"{len(rows)} kernels{failed}, {sum(len(row.properties) for row in rows)} properties: {parts}; "
        f"{shared_queries}; "
        f"{sum(row.cpu for row in rows):.0f} s CPU, {seconds:.0f} s"
    )


def _as_json(rows: Sequence[Row]) -> dict[str, Any]:
    from kexec_verify.sweep.compare import differences, shared
    from kexec_verify.sweep.model import exit_status

    return {
        "kernels": rows,
        "functions": shared(rows),
        "differences": differences(rows),
        "exit_status": exit_status(list(rows)),
    }
