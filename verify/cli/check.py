"""``verify check``: a finished run, checked again from its texts alone."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from verify.cli.terminal import Terminal
from verify.errors import UsageError

if TYPE_CHECKING:
    from verify.check.model import Check


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="RUNDIR")
@click.option(
    "--certify", is_flag=True, help="Also have a SAT solver prove each obligation, and check the proof."
)
@click.option("--cvc5", "third", is_flag=True, help="Also ask cvc5, if its package is installed.")
@click.option(
    "-j", "--jobs", default=0, type=click.IntRange(min=0), help="Processes; 0 is one for each core."
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def check(directory: Path, certify: bool, third: bool, jobs: int, quiet: bool) -> int:
    """Check the run in RUNDIR again: texts, solvers, verdicts. RUNDIR is a folder with a run.json.

    Every text must be the one that was recorded, and z3 and bitwuzla must again both find
    what the record claims; the engine that wrote the texts takes no part. What was found
    is written to RUNDIR/check.json.

    Exit status: 0 the record holds, 1 it claims what the check does not find,
    2 a text is missing or changed, 70 the solvers contradict each other.
    """
    import msgspec

    from verify.check.model import FILE
    from verify.check.runs import Options, check_run
    from verify.check.text import require_independence

    require_independence()
    terminal = Terminal(quiet)
    options = Options(jobs=jobs or os.cpu_count() or 1, third=third, certificates=certify)
    with terminal.progress(str(directory)):
        found = check_run(directory, options, terminal.doing)
    require_independence()
    path = directory / FILE
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    except OSError as error:
        raise UsageError(f"expected a file to write, found {path}: {error.strerror}") from error
    terminal.lines(lines(found, certify))
    terminal.line(f"  {path}")
    if found.faults:
        terminal.line(f"next: verify run {shlex.quote(_source(directory))} --reports {directory.parent}")
    return 1 if found.faults else 0


def _source(directory: Path) -> str:
    """The target that the run was of, as it was typed."""
    from verify.report.read import read_run

    return read_run(directory / "run.json").target.source


def lines(found: Check, certified: bool) -> list[str]:
    """The check for the terminal: a row a property, the sums, then each fault."""
    shown = [
        f"{claim.id:<24} claimed {claim.claimed:<11} found {claim.recomputed:<11} {claim.reason}".rstrip()
        for claim in found.claims
    ]
    solvers = sorted({answer.solver for text in found.texts for answer in text.answers}, reverse=True)
    shown.append(
        f"{found.obligations} obligations, {len(found.texts)} texts, all as recorded; "
        f"asked {' and '.join(solvers)} again in {found.seconds:.1f} s"
    )
    if certified:
        shown.append(
            f"{found.certified} of {found.obligations} obligations certified ({found.versions['sat']})"
        )
        shown += [f"  not certified: {count}: {reason}" for reason, count in found.uncertified.items()]
    shown += [f"fault: {fault}" for fault in found.faults]
    shown.append("the record does not hold" if found.faults else "the record holds")
    return shown
