"""``verify completion``: print a script with which a shell completes commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class
from kexec_verify.cli.terminal import Terminal
from kexec_verify.specs.properties import PROPERTIES

SHELLS = ("bash", "zsh", "fish")


def complete_property(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the properties whose name begins so."""
    return [CompletionItem(name) for name in PROPERTIES if name.startswith(begun)]


def complete_format(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the formats of the gate whose name begins so."""
    from kexec_verify.gate.formats import FORMATS

    return [CompletionItem(name) for name in FORMATS if name.startswith(begun)]


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), metavar="SHELL")
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for SHELL: bash, zsh or fish.

    It completes commands, options, properties and formats. In ~/.bashrc: eval "$(verify completion bash)".
    In ~/.zshrc, after compinit: eval "$(verify completion zsh)". For fish: verify completion fish | source,
    in ~/.config/fish/config.fish.
    """
    kind = get_completion_class(shell)
    if kind is None:  # click has all three
        raise click.BadParameter(f"no completion for {shell}")
    script = kind(context.find_root().command, {}, "verify", "_VERIFY_COMPLETE").source()
    Terminal().raw(script)
