"""The commands and their options. What needs angr is imported when a run starts."""

from __future__ import annotations

import shlex
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

import verify
from verify.cli import advice, interrupt
from verify.cli.check import check as check_command
from verify.cli.completion import completion
from verify.cli.cosim import cosim
from verify.cli.diff import diff
from verify.cli.gate import gate
from verify.cli.listing import assumptions, doctor, list_, show
from verify.cli.mutate import mutate
from verify.cli.options import reports_option
from verify.cli.replay import replay
from verify.cli.report import report
from verify.cli.terminal import Terminal
from verify.errors import UsageError, VerifyError
from verify.kexec.selection import select
from verify.report.place import require_writable
from verify.report.read import earlier_seconds
from verify.verdict import Verdict, join

if TYPE_CHECKING:
    from verify.prove.discharge import Discharger
    from verify.report.model import Run
    from verify.target import Kernel

BINARIES = Path("binaries")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(verify.__version__, prog_name="verify")
def cli() -> None:
    """Prove what a compiled arm64 kernel does in kexec."""


@cli.command()
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option(
    "--property", "patterns", multiple=True, metavar="GLOB", help="Only these properties; repeatable."
)
@reports_option("Directory that run.json and its page are written under.")
@click.option(
    "--seed", default=0, show_default=True, help="The solvers' random seed; no verdict depends on it."
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def run(targets: tuple[str, ...], patterns: tuple[str, ...], directory: Path, seed: int, quiet: bool) -> int:
    """Verify each TARGET: a vmlinux, an Image or vmlinuz, or debian:PACKAGE.

    Without a TARGET: every ELF file in binaries/.

    Exit status: 0 all proved, 1 something refuted, 2 usage or bad input, 3 undecided,
    70 internal fault. Ctrl-C and SIGTERM leave a run.json of what is known, marked incomplete.
    """
    select(patterns)  # a wrong glob is said before anything is loaded
    terminal = Terminal(quiet)
    started = time.monotonic()
    runs, troubles = [], []
    shared: dict[int, Discharger] = {}
    names: set[str] = set()
    interrupt.install()
    for target in targets or _shipped():
        try:
            runs.append(_verify(target, patterns, directory, terminal, seed, shared, names))
        except VerifyError as error:
            terminal.error(str(error), advice.after(error))
            troubles.append(error.exit_code)
    if runs:
        from verify.html.index import write_index

        write_index(directory)
        terminal.summary(runs, time.monotonic() - started)
    for run in runs:
        for stale in run.stale_waivers:
            terminal.error(
                f"{run.target.name}: expected {stale} refuted, as specs/waivers.toml says, found it PROVED",
                "take the waiver out of specs/waivers.toml",
            )
            troubles.append(1)
    verdict = join(run.verdict for run in runs)
    statuses = [*troubles, *([verdict.exit_status] if runs else [])]
    # An internal fault outranks all, a refutation outranks bad input, bad input an undecided claim.
    return next((status for status in (70, 1, 2, 3) if status in statuses), 0)


def _shipped() -> list[str]:
    found = sorted(str(path) for path in BINARIES.glob("**/*.elf"))
    if not found:
        raise UsageError("expected a TARGET, or ELF files in ./binaries, found neither")
    return found


def _fresh_name(name: str, names: set[str]) -> str:
    """``name``, or with a number behind it if this command has used it for another target."""
    count = 1
    fresh = name
    while fresh in names:
        count += 1
        fresh = f"{name}-{count}"
    names.add(fresh)
    return fresh


def _verify(
    target: str,
    patterns: tuple[str, ...],
    directory: Path,
    terminal: Terminal,
    seed: int,
    shared: dict[int, Discharger],
    names: set[str],
) -> Run:
    """One target's run.

    :param shared: the discharger by seed, for all targets of the command.
    :param names: of report directories that the command has written already.
    """
    began = datetime.now(UTC)
    with terminal.progress(target):
        terminal.doing("opening")
        from verify.kexec.locate import find_routine
        from verify.target import open_target
        from verify.target.source import source_line

        kernel: Kernel = open_target(target)
        function = find_routine(kernel)
        require_writable(directory)
        place = directory / _fresh_name(kernel.name, names)
        terminal.expect(earlier_seconds(place))
        terminal.doing("loading the engine")
        # From here on an interrupt finds enough to write a report of.
        with interrupt.held():
            from verify.arm64.lift import Code
            from verify.kexec.way import has_way
            from verify.prove.discharge import Discharger
            from verify.report.partial import Partial
            from verify.report.record import record, save
            from verify.waivers import read_waivers
            from verify.way import prove_kernel

            code = Code(function.name, function.address, function.code)
            discharger = shared.setdefault(seed, Discharger(seed=seed))
            partial = Partial(code, select(patterns), discharger, has_way(kernel))
        try:
            outcome = prove_kernel(
                kernel,
                function,
                select(patterns),
                terminal.doing,
                discharger,
                partial.known,
                read_waivers(),
            )
            run = record(kernel, function, outcome, began)
        except interrupt.Interrupted as stop:
            with interrupt.held():
                outcome = partial.outcome()
                stop.written = save(
                    partial.incomplete(record(kernel, function, outcome, began)), outcome, place
                )
            raise
        terminal.doing("writing the report")
        with interrupt.held():
            from verify.html.index import PAGE
            from verify.html.write import fresh_page, remember

            path = save(run, outcome, place, {PAGE: fresh_page(run, place)})
            remember(run, place)
    elsewhere = "" if directory == Path("reports") else f" --reports {shlex.quote(str(directory))}"
    terminal.run(run, elsewhere)
    for finding in outcome.findings:
        if finding.counterexample is not None and finding.waiver is None:
            from verify.report.replay import in_lines

            terminal.line()
            terminal.lines(in_lines(finding.counterexample))
            line = source_line(Path(target), finding.counterexample.at) if kernel.format == "elf" else None
            if line is not None:
                terminal.line(f"  source   {line}")
            terminal.line("  replayed: confirmed")
            terminal.line()
            break
    terminal.line(f"  {path}")
    terminal.line(f"  {path.with_name(PAGE)}")
    if run.verdict is Verdict.REFUTED:
        terminal.line(f"  next: verify replay {path}")
    elif run.verdict is not Verdict.PROVED:
        worst = max(run.properties, key=lambda record: (not record.waived, record.verdict.rank))
        terminal.line(f"  next: verify show {worst.id}{elsewhere}")
    terminal.line()
    return run


@cli.command()
@click.argument("target")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--patch",
    "patches",
    multiple=True,
    metavar="SYMBOL+OFFSET=WORD",
    help="Replace one instruction: where, as the kernel prints it, and its new encoding; repeatable.",
)
def extract(target: str, path: Path, patches: tuple[str, ...]) -> None:
    """Write TARGET to PATH as an ELF file with the symbols that were recovered.

    With --patch the copy has a seeded fault, for seeing how a broken kernel is refuted:

    verify extract debian:linux-image-6.1.0-56-arm64 broken.elf --patch
    arm64_relocate_new_kernel+0x98=0xd503201f
    """
    from verify.cli.patch import patched
    from verify.target import open_target, write_elf

    kernel = open_target(target)
    for patch in patches:
        kernel = patched(kernel, patch)
    try:
        write_elf(kernel, path)
    except OSError as error:
        raise UsageError(f"expected a file to write, found {path}: {error.strerror}") from error
    Terminal().line(f"{path}: {kernel.name}, {len(patches)} patched; next: verify run {path}")


cli.add_command(assumptions)
cli.add_command(check_command)
cli.add_command(completion)
cli.add_command(cosim)
cli.add_command(diff)
cli.add_command(doctor)
cli.add_command(gate)
cli.add_command(list_)
cli.add_command(mutate)
cli.add_command(replay)
cli.add_command(report)
cli.add_command(show)
