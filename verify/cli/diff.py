"""``verify diff``: compare two kernels."""

from __future__ import annotations

from pathlib import Path

import click
from kexec_verify.cli.options import format_option, quiet_option, waivers_option
from kexec_verify.cli.terminal import Terminal
from kexec_verify.errors import UsageError
from kexec_verify.near import near
from kexec_verify.shipped import corpus_folder

STDIN = "-"  # kept here too, so that `verify --help` need not load what reads targets
_SHIPPED = "-4k-gcc.elf"


@click.command()
@click.argument("old")
@click.argument("new")
@waivers_option
@format_option
@quiet_option
def diff(old: str, new: str, waiver_files: tuple[Path, ...], as_json: bool, quiet: bool) -> int:
    """Compare two kernels: what changed, and whether both still reach the same entry in the same state.

    OLD and NEW are targets as for `verify run`, or names of the corpus (seed-before, seed-after, later).
    Functions and obligations are matched by name. That both kernels enter the new kernel alike is proved
    or refuted for the same kimage, in place and relocating. The properties' verdicts are those of
    `verify run`.

    Exit status: 0 if the kernels enter the new kernel alike, 1 if that is refuted, 2 for a usage error or
    bad input, 3 if it is undecided.
    """
    terminal = Terminal(quiet)
    with terminal.progress(f"{old} and {new}"):
        terminal.doing("opening")
        from kexec_verify.target import open_target

        kernels = open_target(_target(old)), open_target(_target(new))
        terminal.doing("loading the engine")
        from kexec_verify.cache.queries import cached_queries
        from kexec_verify.diff.compare import compare
        from kexec_verify.diff.text import format_comparison
        from kexec_verify.waivers import read_all_waivers, read_waivers

        waivers = read_waivers() + read_all_waivers(waiver_files)
        with cached_queries() as queries:
            found = compare(kernels[0], kernels[1], terminal.doing, queries, waivers)
    if as_json:
        import msgspec

        terminal.json({**msgspec.to_builtins(found), "verdict": str(found.verdict)})
    else:
        terminal.lines(format_comparison(found))
    return found.verdict.exit_status


def _target(name: str) -> str:
    """Return the file of the corpus that a short name means, where no file has that name."""
    if name == STDIN or Path(name).exists() or ":" in name:
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
        names = ", ".join(sorted(kernels))
        hint = near(name, kernels)
        raise UsageError(f"expected a target or a name of the corpus ({names}), found {name!r}{hint}")
    return kernels[name]
