"""The command line: all commands, grouped by task."""

from __future__ import annotations

from pathlib import Path

import click
import kexec_verify
from kexec_verify.cli import advice
from kexec_verify.cli.cache import cache
from kexec_verify.cli.check import check
from kexec_verify.cli.completion import completion
from kexec_verify.cli.cosim import cosim
from kexec_verify.cli.diff import diff
from kexec_verify.cli.explain import explain
from kexec_verify.cli.gate import gate
from kexec_verify.cli.listing import assumptions, doctor, list_, show
from kexec_verify.cli.live import live
from kexec_verify.cli.mutate import mutate
from kexec_verify.cli.replay import replay
from kexec_verify.cli.report import report
from kexec_verify.cli.run import run
from kexec_verify.cli.sweep import sweep
from kexec_verify.cli.terminal import Terminal
from kexec_verify.errors import UsageError


class OutputClosed(Exception):
    """Nobody reads standard output any more: not an error, and not click's exit status 1."""


TASKS = {
    "Verify a kernel": ("run", "list", "show", "explain", "assumptions", "doctor"),
    "Compare and gate": ("diff", "gate", "sweep", "report"),
    "Check the tool": ("check", "live", "replay", "cosim", "mutate", "extract"),
    "Set up": ("cache", "completion"),
}
VARIABLES = (
    ("KEXEC_VERIFY_CACHE", "Folder of cached results."),
    ("KEXEC_VERIFY_CACHE_KEY", "Key of the seals of cached results, for a cache that machines share."),
    ("XDG_CACHE_HOME", "Where packages and, without KEXEC_VERIFY_CACHE, results are cached: ~/.cache."),
    ("XDG_CONFIG_HOME", "Where this user's key is kept: ~/.config."),
    ("VERIFY_DEBUG", "If set, an internal fault shows its traceback."),
    ("NO_COLOR, FORCE_COLOR", "If set, output is never, or always, that of a colour terminal."),
    ("COLUMNS, TERM", "Width and kind of the terminal."),
)


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise OutputClosed from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under the task that each is for."""
        width = max(map(len, self.commands))
        for task, names in TASKS.items():
            with formatter.section(task):
                limit = formatter.width - 6 - width
                rows = [(name.ljust(width), self.commands[name].get_short_help_str(limit)) for name in names]
                formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the environment variables that the commands read."""
        with formatter.section("Environment variables"):
            formatter.write_dl(VARIABLES)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(kexec_verify.__version__, prog_name="verify")
def cli() -> None:
    """Prove what a compiled arm64 kernel does in kexec."""


@cli.command()
@click.argument("target")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--patch",
    "patches",
    multiple=True,
    metavar="SYMBOL+OFFSET=WORD",
    help="Replace one instruction: where, as the kernel prints it, and its new encoding; repeatable.",
)
def extract(target: str, path: Path, patches: tuple[str, ...]) -> None:
    """Write TARGET to PATH as an ELF file with the symbols that were recovered.

    With --patch the copy has a seeded fault, for seeing how a broken kernel is refuted:

    verify extract debian:linux-image-6.1.0-56-arm64 broken.elf --patch
    arm64_relocate_new_kernel+0x98=0xd503201f
    """
    from kexec_verify.cli.patch import patched
    from kexec_verify.target import open_target, write_elf

    kernel = open_target(target)
    for patch in patches:
        kernel = patched(kernel, patch)
    try:
        write_elf(kernel, path)
    except OSError as error:
        raise UsageError(f"expected a file to write, found {path}: {error.strerror}") from error
    Terminal().line(f"{path}: {kernel.name}, {len(patches)} patched; next: verify run {path}")


cli.add_command(assumptions)
cli.add_command(cache)
cli.add_command(check)
cli.add_command(completion)
cli.add_command(cosim)
cli.add_command(diff)
cli.add_command(doctor)
cli.add_command(explain)
cli.add_command(gate)
cli.add_command(list_)
cli.add_command(live)
cli.add_command(mutate)
cli.add_command(replay)
cli.add_command(report)
cli.add_command(run)
cli.add_command(show)
cli.add_command(sweep)
advice.commands.update(cli.commands)
