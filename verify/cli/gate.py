"""``verify gate``: whether finished runs are good enough to go on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec
from kexec_verify.cli import advice
from kexec_verify.cli.completion import complete_format
from kexec_verify.cli.options import waivers_option
from kexec_verify.cli.terminal import Terminal
from kexec_verify.errors import UsageError

if TYPE_CHECKING:
    from kexec_verify.report.model import Run

# Kept here too, so that `verify --help` need not load them all; a test holds the two together.
FORMAT_NAMES = ("text", "json", "junit", "ktap", "sarif", "github", "summary", "markdown", "kernel")


@click.command()
@click.argument("patterns", nargs=-1, required=True, metavar="RUN.json...")
@click.option(
    "--baseline",
    "baseline_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Baseline file: results that must not get weaker.",
)
@click.option(
    "--baseline-target",
    default="",
    metavar="NAME",
    help="Target of the baseline to compare the one run with, where several could be meant.",
)
@click.option(
    "--policy",
    "policy_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Policy file (TOML): acceptable assumptions and waivers.",
)
@click.option(
    "--binary",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Binary about to be shipped. Fail unless it is the one that was verified.",
)
@waivers_option
@click.option(
    "--update-baseline", is_flag=True, help="Write the baseline from the runs, and list the changes."
)
@click.option(
    "--require-live", is_flag=True, help="Fail unless live runs of the same bytes hold (verify live)."
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    metavar="FORMAT[=FILE]",
    shell_complete=complete_format,
    help=f"One of {', '.join(FORMAT_NAMES)}; to FILE, or instead of text. Repeatable.",
)
def gate(
    patterns: tuple[str, ...],
    baseline_path: Path | None,
    baseline_target: str,
    policy_path: Path | None,
    binary: Path | None,
    waiver_files: tuple[Path, ...],
    update_baseline: bool,
    require_live: bool,
    formats: tuple[str, ...],
) -> int:
    """Fail unless each run is proved and no result is weaker than the baseline.

    RUN.json is a run's file, its folder, a folder of runs, or a glob of these. The gate fails
    on anything refuted, undecided, vacuous or incomplete; with --baseline on what was proved
    and is now missing or weaker, on new assumptions, and on a run or target that the other does
    not have (another version of a kernel is compared with it); on waivers that the policy does not
    allow; with --binary on another binary; and on seeded mutants, if the policy asks for them.

    Exit status: 0 passed; 1 refuted, worse than the baseline, or not allowed; 2 usage or bad input;
    3 undecided or incomplete; 70 internal fault. Without a policy, a REFUTED property passes if
    specs/waivers.toml waives it, or if the run used a waiver that is in a file of --waivers or
    of the policy's waiver-files.
    """
    from kexec_verify.gate.baseline import read_baseline
    from kexec_verify.gate.decide import decide
    from kexec_verify.gate.evidence import gather
    from kexec_verify.gate.formats import FORMATS
    from kexec_verify.gate.formats.report import report
    from kexec_verify.gate.policy import Policy, read_policy
    from kexec_verify.gate.remedy import Command, remedy
    from kexec_verify.report.place import write_whole
    from kexec_verify.report.source_lines import source_finder
    from kexec_verify.waivers import read_all_waivers

    wanted = [_format(text) for text in formats] or [("text", None)]
    if sum(path is None for _, path in wanted) > 1:
        raise UsageError("expected one --format without =FILE, found several: they would mix")
    evidence = gather(patterns, binary)
    policy = read_policy(policy_path) if policy_path else Policy()
    if require_live:
        policy = msgspec.structs.replace(policy, require_live=True)
    terminal = Terminal()
    if baseline_target and (update_baseline or baseline_path is None):
        raise UsageError("expected --baseline-target with --baseline, and without --update-baseline")
    if update_baseline:
        return _update(terminal, baseline_path, [item.run for item in evidence])
    baseline = read_baseline(baseline_path) if baseline_path else None
    files = dict.fromkeys([*waiver_files, *map(Path, policy.waiver_files)])
    decision = decide(evidence, policy, baseline, read_all_waivers(files), baseline_target)
    typed = Command(advice.again(), policy, policy_path)
    shown = report(decision, evidence, source_finder(binary), remedy(decision, typed))
    if all(path is not None for _, path in wanted):
        wanted.append(("text", None))
    for name, path in wanted:
        text = FORMATS[name](shown)
        if path is not None:
            write_whole(path, text.encode("utf-8", "backslashreplace"))
        elif name == "text":
            terminal.decision(text, decision.exit_status)
        else:
            terminal.raw(text)
    return decision.exit_status


def _format(text: str) -> tuple[str, Path | None]:
    name, equals, path = text.partition("=")
    if name not in FORMAT_NAMES or (equals and not path):
        raise UsageError(
            f"expected FORMAT or FORMAT=FILE with one of {', '.join(FORMAT_NAMES)}, found {text!r}"
        )
    return name, Path(path) if equals else None


def _update(terminal: Terminal, path: Path | None, runs: list[Run]) -> int:
    """Write the baseline, and list what it now says otherwise, for the one who reviews it."""
    from kexec_verify.gate.baseline import (
        SCHEMA,
        Baseline,
        baseline_of,
        changes,
        read_baseline,
        write_baseline,
    )
    from kexec_verify.gate.counterpart import counterparts
    from kexec_verify.report.plain import plain

    if path is None:
        raise UsageError("expected --baseline FILE with --update-baseline, found none")
    partial = [run.target.name for run in runs if not run.complete]
    if partial:
        raise UsageError(f"expected finished runs for a baseline, found {partial[0]}, which was interrupted")
    old = read_baseline(path) if path.exists() else Baseline(SCHEMA, {})
    new = baseline_of(runs)
    try:
        pairs = counterparts(runs, old)
    except UsageError:  # several could be meant; then targets of one name are compared
        pairs = {}
    write_baseline(new, path)
    found = changes(old, new, pairs)
    terminal.lines(plain(line) for line in found)
    terminal.line(plain(f"{path}: {len(new.targets)} targets, {len(found)} items changed"))
    return 0
