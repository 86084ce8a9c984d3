"""``verify check``: check a finished run again from its SMT-LIB files alone."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click
from kexec_verify.cli.options import jobs_option, number_option, quiet_option, waivers_option
from kexec_verify.cli.terminal import Terminal
from kexec_verify.errors import UsageError

if TYPE_CHECKING:
    from kexec_verify.check.model import Check


@click.command()
@click.argument("directory", type=click.Path(path_type=Path), metavar="RUNDIR")
@click.option(
    "--certify", is_flag=True, help="Also have a SAT solver prove each obligation, and check the proof."
)
@click.option("--cvc5", "third", is_flag=True, help="Also run cvc5, if its package is installed.")
@number_option(
    "--time-limit", 20, "Seconds of CPU time for one query. A query that takes longer is undecided.", least=1
)
@number_option(
    "--budget", 3600, "Seconds for the whole check. A query that is not begun by then is undecided.", least=1
)
@waivers_option
@jobs_option("Number of processes; 0: one for each core.")
@quiet_option
def check(
    directory: Path,
    certify: bool,
    third: bool,
    time_limit: int,
    budget: int,
    waiver_files: tuple[Path, ...],
    jobs: int,
    quiet: bool,
) -> int:
    """Check a finished run independently: queries, solvers, verdicts. RUNDIR is a folder with a run.json.

    Each SMT-LIB file must be the one that was recorded, and z3 and bitwuzla must both find again
    what the record claims. The engine that wrote the files takes no part. A waiver of the run must be
    in specs/waivers.toml or in a file of --waivers. The result is written to RUNDIR/check.json.

    A run's files do not show whether its obligations are those of the target's bytes, and all of them.
    The seal next to run.json shows that your own tool wrote it. For a run without your seal only
    `verify run TARGET --recheck` shows that.

    Exit status: 0 the record holds, is sealed, and all that it is about is PROVED or waived;
    1 it claims what the check does not find, or something is refuted; 2 usage, or a text is
    missing or changed; 3 something is undecided, a solver gave up, the run is not sealed, or
    not certified as --certify asks; 70 the solvers contradict each other.
    """
    import msgspec
    from kexec_verify.check.model import FILE
    from kexec_verify.check.runs import Options, check_run
    from kexec_verify.check.text import require_independence
    from kexec_verify.waivers import read_all_waivers

    require_independence()
    terminal = Terminal(quiet)
    options = Options(
        jobs=jobs or os.cpu_count() or 1,
        limit=time_limit,
        budget=budget,
        third=third,
        certificates=certify,
        waivers=tuple(read_all_waivers(waiver_files)),
    )
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
    if found.exit_status:
        again = f"verify run {shlex.quote(_source(directory))} --recheck"
        terminal.line(f"next: {again} --reports {shlex.quote(str(directory.parent))}")
    return found.exit_status


def _source(directory: Path) -> str:
    """Return the target of the run as the user typed it."""
    from kexec_verify.report.read import read_run

    return read_run(directory / "run.json").target.source


def lines(found: Check, certified: bool) -> list[str]:
    """Return the check as lines of text: one for each property, the sums, then each fault."""
    shown = [
        f"{claim.id:<24} claimed {claim.claimed:<11} found {claim.recomputed:<11} "
        f"{claim.obligations:>4} obligations {claim.digest[:12]} {claim.reason}".rstrip()
        for claim in found.claims
    ]
    solvers = sorted({answer.solver for text in found.texts for answer in text.answers}, reverse=True)
    shown.append(
        f"{found.obligations} obligations, {len(found.texts)} texts, all as recorded; "
        f"{' and '.join(solvers) or 'no solver'} checked them again in {found.seconds:.1f} s"
    )
    if certified:
        shown.append(
            f"{found.certified} of {found.obligations} obligations certified ({found.versions['sat']})"
        )
        shown += [f"  not certified: {count}: {reason}" for reason, count in found.uncertified.items()]
    if found.absent:
        shown.append(f"the run does not have {', '.join(found.absent)}")
    shown += [f"fault: {fault}" for fault in found.faults]
    shown += [f"not established: {what}" for what in found.unsettled]
    shown.append(
        "the record does not hold"
        if found.faults
        else "the record is not confirmed: not every text is decided"
        if not all(text.holds for text in found.texts)
        else "the record holds"
        if found.sealed
        else "what is recorded holds; whether it is all that must hold is not established"
    )
    return shown
