"""``verify cache``: count, check and drop cached results."""

from __future__ import annotations

import time

import click
from kexec_verify.cli.options import format_option, quiet_option
from kexec_verify.cli.terminal import Terminal

_MEGABYTE = 1 << 20


@click.group()
def cache() -> None:
    """Count, check or drop cached results: solvers' answers by query hash, and whole runs.

    An entry is used only if it has a seal made with your own key
    (~/.config/kexec-verify/cache.key, or KEXEC_VERIFY_CACHE_KEY). An answer is used only for the
    same query, solver and version.
    """


@cache.command()
@format_option
def stats(as_json: bool) -> None:
    """Count what is kept."""
    from kexec_verify.cache.place import open_cache

    terminal, kept = Terminal(), open_cache()
    counts = kept.counts()
    kept.close()
    if as_json:
        terminal.json(
            {
                "path": str(kept.path),
                "kinds": {
                    c.kind: {"values": c.values, "bytes": c.size, "unsealed": c.unsealed} for c in counts
                },
            }
        )
        return
    terminal.line(str(kept.path))
    for count in counts:
        broken = f", {count.unsealed} without a valid seal" if count.unsealed else ""
        terminal.line(f"  {count.kind:<8} {count.values:>8} in {count.size / _MEGABYTE:.1f} MB{broken}")
    if not counts:
        terminal.line("  empty")


@cache.command()
def clear() -> None:
    """Drop everything."""
    from kexec_verify.cache.place import open_cache

    kept = open_cache()
    dropped = kept.clear()
    kept.close()
    Terminal().line(f"{kept.path}: {dropped} values dropped")


@cache.command("verify")
@click.option("--solve", is_flag=True, help="Also run the solvers on every cached query again.")
@quiet_option
def verify_(solve: bool, quiet: bool) -> int:
    """Check every seal and, with --solve, every answer; drop what is wrong.

    Exit status: 0 everything is right, 1 something was dropped, 70 a solver contradicts a kept answer.
    """
    from kexec_verify.cache.check import check_cache
    from kexec_verify.cache.place import open_cache

    terminal, kept = Terminal(quiet), open_cache()
    started = time.monotonic()
    with terminal.progress(str(kept.path)):
        found = check_cache(kept, solve, terminal.doing)
    kept.close()
    terminal.line(
        f"{kept.path}: {found.values} values in {time.monotonic() - started:.1f} s, "
        f"{found.solved} solved again, {found.dropped} dropped"
    )
    for digest in found.contradicted:
        terminal.error(f"expected the kept answer to {digest} again, found another", "verify run --recheck")
    if found.contradicted:
        return 70
    return 1 if found.dropped else 0
