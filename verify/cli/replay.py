"""``verify replay``: runs the counterexamples of a finished run again."""

from __future__ import annotations

from pathlib import Path

import click

from verify.cli.terminal import Terminal


@click.command()
@click.argument("path", metavar="RUN.json", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Also write memory images and gdb scripts here.")
def replay(path: Path, out: Path | None) -> int:
    """Run each counterexample in RUN.json again, on the bytes recorded there.

    Exit status 0 if each shows its effect again, 70 if one does not.
    """
    from verify.report.debugger import write_out
    from verify.report.read import read_run
    from verify.report.replay import in_lines, recorded

    terminal = Terminal()
    items = recorded(read_run(path))
    if not items:
        terminal.line(f"{path}: nothing is refuted, so there is nothing to replay")
    for item in items:
        item.confirm()
        terminal.lines(in_lines(item.counterexample))
        terminal.line("  replayed: confirmed")
        if out is not None:
            for written in write_out(item, out):
                terminal.line(f"  {written}")
        terminal.line()
    return 0
