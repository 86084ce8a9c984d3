"""``verify completion``: the script that has a shell complete commands, options and properties."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class
from kexec_verify.cli.terminal import Terminal

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for SHELL.

    For bash: eval "$(verify completion bash)", also in ~/.bashrc.
    """
    kind = get_completion_class(shell)
    if kind is None:  # click has all three
        raise click.BadParameter(f"no completion for {shell}")
    script = kind(context.find_root().command, {}, "verify", "_VERIFY_COMPLETE").source()
    Terminal().raw(script)
