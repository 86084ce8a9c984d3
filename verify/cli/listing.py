"""``verify list``, ``show``, ``assumptions`` and ``doctor``: print as text or as JSON."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from kexec_verify.cli.completion import complete_property
from kexec_verify.cli.options import format_option, reports_option
from kexec_verify.cli.terminal import Terminal
from kexec_verify.errors import UsageError
from kexec_verify.kexec.selection import matching
from kexec_verify.report.composed import tree
from kexec_verify.report.status import status
from kexec_verify.specs.assumptions import ASSUMPTIONS
from kexec_verify.specs.properties import PROPERTIES, Property
from kexec_verify.verdict import Verdict

if TYPE_CHECKING:
    from kexec_verify.report.model import PropertyRecord, Run


def _matching(patterns: Sequence[str]) -> list[Property]:
    """Return the properties that some glob matches.

    :raises UsageError: if a glob matches none.
    """
    wanted = {name for pattern in patterns for name in matching(pattern)}
    return [claim for claim in PROPERTIES.values() if claim.id in wanted]


@click.command("list")
@click.argument("patterns", nargs=-1, metavar="[PROPERTY]...", shell_complete=complete_property)
@format_option
def list_(patterns: tuple[str, ...], as_json: bool) -> None:
    """List the properties that can be verified; PROPERTY is a glob."""
    terminal = Terminal()
    claims = _matching(patterns or ("*",))
    if as_json:
        terminal.json([_claim(claim) for claim in claims])
        return
    for claim in claims:
        terminal.line(f"{claim.id:<24} {claim.theorem:<3} {claim.statement}")


def _claim(claim: Property) -> dict[str, Any]:
    return {
        "id": claim.id,
        "theorem": claim.theorem,
        "statement": claim.statement,
        "rests_on": list(claim.rests_on),
        "parts": list(claim.parts),
        "obligations": list(claim.obligations),
    }


@click.command()
@click.argument("patterns", nargs=-1, required=True, metavar="PROPERTY...", shell_complete=complete_property)
@reports_option("Directory whose runs are shown beside the statement.")
@format_option
def show(patterns: tuple[str, ...], directory: Path, as_json: bool) -> None:
    """Explain properties: statement, assumptions, obligations, verdicts so far. PROPERTY is a glob."""
    from kexec_verify.report.read import read_runs

    terminal = Terminal()
    claims = _matching(patterns)
    runs = read_runs(directory, terminal.note)
    if as_json:
        terminal.json([{**_claim(claim), "runs": _verdicts(claim, runs)} for claim in claims])
        return
    for claim in claims:
        records = [
            (folder, run, p) for folder, run in runs.items() for p in run.properties if p.id == claim.id
        ]
        _show(terminal, claim, records, directory)


def _verdicts(claim: Property, runs: Mapping[Path, Run]) -> list[dict[str, Any]]:
    return [
        {
            "target": run.target.name,
            "report": str(folder),
            "function": record.function,
            "status": status(record),
            "complete": run.complete,
            "reason": record.reason,
            "assumptions": record.assumptions,
            "obligations": len(record.obligations),
        }
        for folder, run in runs.items()
        for record in run.properties
        if record.id == claim.id
    ]


def _show(
    terminal: Terminal,
    claim: Property,
    records: Sequence[tuple[Path, Run, PropertyRecord]],
    directory: Path,
) -> None:
    terminal.line(f"{claim.id} ({claim.theorem})", style="bold")
    terminal.line(f"  {claim.statement}")
    if claim.parts:
        terminal.line(f"  made of: {', '.join(claim.parts)}")
    if claim.rests_on:
        terminal.line(f"  rests on: {', '.join(claim.rests_on)}")
    used = {a for _, _, p in records for a in p.assumptions} or set(claim.assumptions)
    terminal.line("  assumptions:" if used else "  assumptions: none")
    for assumption in ASSUMPTIONS.values():
        if assumption.id in used:
            terminal.line(f"    {assumption.id}: {assumption.sentence}")
            terminal.line(f"      {assumption.source}")
    terminal.line(f"  obligations: {', '.join(claim.obligations)}")
    for folder, run, record in records:
        incomplete = "" if run.complete else ", of a run that was interrupted"
        count = len(record.obligations)
        terminal.line(f"  {folder.name}: {status(record)} ({count} obligations{incomplete})")
        if record.parts:
            for line in tree(run, record):
                terminal.line(f"    {line}")
        if record.waived and record.waiver is not None:
            terminal.line(f"    waived: {record.waiver.reason}; {record.waiver.reference}")
        for obligation in record.obligations:
            if obligation.verdict is not Verdict.PROVED:
                terminal.line(f"    {obligation.verdict} {obligation.name}: {obligation.sentence}")
                terminal.line(f"      {folder / obligation.text}")
    if not records:
        terminal.line(f"  no run under {directory} has it; next: verify run --property {claim.id}")


@click.command()
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@reports_option("Directory whose runs say what was used.")
@format_option
def assumptions(targets: tuple[str, ...], directory: Path, as_json: bool) -> None:
    """List the assumptions: sentence, source, the properties that use each, values that satisfy it.

    TARGET is a glob of the names of runs and of their folders under the reports' directory; without one,
    all of them count.
    """
    from kexec_verify.report.ledger import entries, ledger
    from kexec_verify.report.live_record import read_live
    from kexec_verify.report.read import read_runs

    terminal = Terminal()
    found = read_runs(directory, terminal.note)
    named = {f: run for f, run in found.items() if not targets or _is_named(f, run, targets)}
    runs = list(named.values())
    if targets and not runs:
        raise UsageError(
            f"expected a run of {', '.join(targets)} under {directory}, found none", "verify run TARGET"
        )
    lives = [live for folder, run in named.items() if (live := read_live(folder, run.target.sha256))]
    if as_json:
        terminal.json(list(entries(runs, lives)))
        return
    terminal.lines(ledger(runs, lives))


def _is_named(folder: Path, run: Run, targets: Sequence[str]) -> bool:
    names = (run.target.name, folder.name)
    return any(fnmatch.fnmatchcase(name, target) for name in names for target in targets)


@click.command()
@format_option
def doctor(as_json: bool) -> int:
    """Check what is installed of what each command needs, and say how to install the rest.

    Exit status: 0 if `verify run` has what it needs for files, 2 if something of that is missing.
    """
    from dataclasses import asdict

    from kexec_verify.cli.doctor import examine

    terminal = Terminal()
    checks = list(examine())
    if as_json:
        terminal.json([asdict(check) for check in checks])
    else:
        for check in checks:
            mark = "ok     " if check.found else ("missing" if check.needed else "absent ")
            terminal.line(f"{mark}  {check.name:<22} {check.used_by}")
            terminal.line(f"         {'':<22} {check.detail}", style="dim")
    missing = [check for check in checks if check.needed and not check.found]
    if missing and not as_json:
        terminal.line(f"next: {missing[0].detail}")
    return 2 if missing else 0
