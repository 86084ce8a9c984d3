"""``verify explain``: explain why a property of a finished run is not proved."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import click
from kexec_verify.cli.completion import complete_property
from kexec_verify.cli.options import run_json
from kexec_verify.cli.terminal import Terminal
from kexec_verify.errors import UsageError
from kexec_verify.near import near


@click.command()
@click.argument("path", metavar="RUN.json", type=click.Path(path_type=Path))
@click.argument("pattern", metavar="[PROPERTY]", default="*", shell_complete=complete_property)
def explain(path: Path, pattern: str) -> None:
    """Explain why a property is not proved, and what to do.

    RUN.json is a run's file or its folder; PROPERTY is a glob.

    Without PROPERTY each property that is not proved is explained. The cause comes first: the instruction
    that brought the fault about, then where the fault is noticed, and what would make it right. Source lines
    are shown if RUN.json's file has debug information and is still there.
    """
    from kexec_verify.report import explain as explaining
    from kexec_verify.report.plain import plain
    from kexec_verify.report.read import read_run
    from kexec_verify.report.source_lines import source_finder

    terminal = Terminal()
    path = run_json(path)
    run = read_run(path)
    named = [record for record in run.properties if fnmatch.fnmatchcase(record.id, pattern)]
    if not named:
        known = ", ".join(record.id for record in run.properties)
        hint = near(pattern, (record.id for record in run.properties))
        raise UsageError(f"{path} has no property {pattern}; it has {known or 'none'}{hint}")
    lines = source_finder()
    if pattern == "*":
        found = explaining.explanations(run, lines)
        if not found:
            terminal.line(f"{path}: every property is proved, so there is nothing to explain")
    else:
        found = [explaining.explain(run, record, lines) for record in named]
    for number, explanation in enumerate(found):
        if number:
            terminal.line()
        terminal.lines([plain(line) for line in explanation.lines()])
