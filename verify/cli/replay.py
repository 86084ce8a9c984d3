"""``verify replay``: run the counterexamples of a finished run again."""

from __future__ import annotations

from pathlib import Path

import click
from kexec_verify.cli.options import run_json
from kexec_verify.cli.terminal import Terminal


@click.command()
@click.argument("path", metavar="RUN.json", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Also write memory images and gdb scripts here.")
@click.option(
    "--full-system",
    is_flag=True,
    help="Also run the bytes of the routine, the restart code and the hyp stubs on QEMU's machine, with page "
    "tables, exception levels and faults.",
)
def replay(path: Path, out: Path | None, full_system: bool) -> int:
    """Run the counterexamples in RUN.json again, on the bytes recorded there. RUN.json is a run's file or its
    folder.

    Exit status 0 if each shows its effect again, 70 if one does not. What --full-system finds is printed and
    changes no exit status: QEMU has no caches, so a fault of cache maintenance does no harm there.
    """
    from kexec_verify.report.debugger import write_out
    from kexec_verify.report.full_system import enter
    from kexec_verify.report.read import read_run
    from kexec_verify.report.replay import in_lines, recorded

    terminal = Terminal()
    path = run_json(path)
    run = read_run(path)
    items = recorded(run)
    if not items:
        terminal.line(f"{path}: nothing is refuted, so there is nothing to replay")
    for item in items:
        item.confirm()
        terminal.lines(in_lines(item.counterexample))
        terminal.line("  replayed: confirmed")
        if full_system:
            outcome = enter(item, run.function.page_size)
            found = "has no scene for this function" if outcome is None else outcome.reason
            terminal.line(f"  QEMU's machine: {found}")
        if out is not None:
            for written in write_out(item, out):
                terminal.line(f"  {written}")
        terminal.line()
    return 0
