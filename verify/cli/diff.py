"""``verify diff``: two kernels side by side."""

from __future__ import annotations

from pathlib import Path

import click
from kexec_verify.cli.options import format_option, quiet_option
from kexec_verify.cli.terminal import Terminal
from kexec_verify.errors import UsageError
from kexec_verify.shipped import corpus_folder

_SHIPPED = "-4k-gcc.elf"


@click.command()
@click.argument("old")
@click.argument("new")
@format_option
@quiet_option
def diff(old: str, new: str, as_json: bool, quiet: bool) -> int:
    """Compare two kernels: what changed, and whether both still reach the same entry in the same state.

    OLD and NEW are targets as for `verify run`, or forms of the corpus (seed-before, seed-after, later).
    Functions and obligations are matched by name. The relation is proved or refuted for the same
    kimage, in place and relocating.

    Exit status: 0 the relation is proved, 1 refuted, 2 usage or bad input, 3 undecided.
    """
    terminal = Terminal(quiet)
    with terminal.progress(f"{old} and {new}"):
        terminal.doing("opening")
        from kexec_verify.target import open_target

        kernels = open_target(_target(old)), open_target(_target(new))
        terminal.doing("loading the engine")
        from kexec_verify.diff.compare import compare
        from kexec_verify.diff.text import format_comparison

        found = compare(kernels[0], kernels[1], terminal.doing)
    if as_json:
        import msgspec

        terminal.json({**msgspec.to_builtins(found), "verdict": str(found.verdict)})
    else:
        terminal.lines(format_comparison(found))
    return found.verdict.exit_status


def _target(name: str) -> str:
    """Return the file of the corpus that a short name means, where no file has that name."""
    if Path(name).exists() or ":" in name:
        return name
    if "/" in name or "." in name:
        return name  # opening it says what is wrong
    corpus = corpus_folder()
    kernels = {
        path.name.removesuffix(_SHIPPED): str(path)
        for folder in (corpus, corpus / "whole")
        for path in folder.glob(f"*{_SHIPPED}")
    }
    if name not in kernels:
        forms = ", ".join(sorted(kernels))
        raise UsageError(f"expected a target or a name of the corpus, found {name!r}; forms: {forms}")
    return kernels[name]
