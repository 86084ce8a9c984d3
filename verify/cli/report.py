"""``verify report``: draw the page of a finished run again."""

from __future__ import annotations

from pathlib import Path

import click
from kexec_verify.cli.options import run_json
from kexec_verify.cli.terminal import Terminal


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="RUN.json...", type=click.Path(path_type=Path))
def report(paths: tuple[Path, ...]) -> None:
    """Write the HTML page of each RUN.json again, and the index of its folder.

    RUN.json is a run's file or its folder.

    What `verify check`, `verify mutate` and `verify cosim` have written since then is shown too.
    """
    from kexec_verify.html.index import PAGE, write_index
    from kexec_verify.html.write import is_index, write_page

    terminal = Terminal()
    paths = tuple(run_json(path) for path in paths)
    for path in paths:
        terminal.line(str(write_page(path, terminal.note)))
    for reports in dict.fromkeys(path.resolve().parent.parent for path in paths):
        if is_index(reports / PAGE):
            write_index(reports)
