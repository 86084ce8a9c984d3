"""The exact command to type after a failure."""

from __future__ import annotations

import shlex
import sys

from kexec_verify.errors import InternalError, TargetError, VerifyError

commands: set[str] = set()
"""Names of the commands that there are; the module of all commands fills it."""


def again() -> str:
    """The command that was typed."""
    return shlex.join(["verify", *sys.argv[1:]])


def after(error: Exception) -> str:
    """What to type after ``error``: what it says itself, for a fault of the tool the command with details,
    else the command's help.
    """
    if isinstance(error, VerifyError) and error.command:
        return error.command
    if isinstance(error, TargetError) and any(word.startswith("debian:") for word in sys.argv):
        return "verify doctor"
    if isinstance(error, InternalError):
        return f"VERIFY_DEBUG=1 {again()}"
    return help_of()


def help_of() -> str:
    """The help of the command that was typed, or of the whole tool."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    return f"verify {name} --help" if name in commands else "verify --help"
