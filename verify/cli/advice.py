"""The exact command to type after a failure."""

from __future__ import annotations

import shlex
import sys

from kexec_verify.errors import InternalError, TargetError, VerifyError

commands: set[str] = set()
"""Names of all commands; verify/cli/commands.py fills it."""


def again() -> str:
    """Return the command that was typed."""
    return shlex.join(["verify", *sys.argv[1:]])


def after(error: Exception) -> str:
    """Return the command to type after ``error``.

    It is the one that the error names; after a fault of the tool, the same command with details; otherwise
    the command's help.
    """
    if isinstance(error, VerifyError) and error.command:
        return error.command
    if isinstance(error, TargetError) and any(word.startswith("debian:") for word in sys.argv):
        return "verify doctor"
    if isinstance(error, InternalError):
        return f"VERIFY_DEBUG=1 {again()}"
    return help_of()


def help_of() -> str:
    """Return the command that prints the help of the typed command, or of the whole tool."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    return f"verify {name} --help" if name in commands else "verify --help"
