"""The command line: a module for each command, one for the terminal, one for signals."""

from __future__ import annotations

import errno
import io
import os
import sys
from types import TracebackType

from kexec_verify.cli import advice, interrupt
from kexec_verify.cli.commands import OutputClosed, cli
from kexec_verify.cli.supervise import is_memory_limited, supervised
from kexec_verify.cli.terminal import Terminal
from kexec_verify.errors import InternalError, UsageError, VerifyError


def main() -> None:
    """Run the command line, and exit with its status.

    0 every property is PROVED, or REFUTED and waived; 1 a property is REFUTED and not waived; 2 usage or
    bad input, or standard output cannot be written; 3 undecided; 70 internal fault; 141 nobody reads the
    output any more.
    """
    sys.excepthook = _fault
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an arrow on an ASCII terminal is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    sys.exit(supervised(_command) if is_memory_limited() else _command())


def _command() -> int:
    """Run the command and write all output; return the exit status."""
    global _is_running
    _is_running = True
    try:
        status = _status()
    finally:
        _is_running = False
    try:
        sys.stdout.flush()
    except OSError as error:
        status = _lost(error)
    return status


_STDOUT = 1
_SHOWN = 60  # characters of a path
_is_running = False  # a command; what it raises is caught


def _fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End with status 70 on an error that nobody caught: Python's own status is 1, which means refuted."""
    if isinstance(error, interrupt.Interrupted):
        # A solver prints what its callback raises, and goes on: interrupt.check raises it again.
        if not _is_running:
            os._exit(error.exit_status)
        return
    sys.__excepthook__(kind, error, trace)
    os._exit(InternalError.exit_code)


def _lost(error: OSError) -> int:
    """Return the exit status for output that cannot be written; keep Python from trying again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
    if isinstance(error, BrokenPipeError):
        return 141
    Terminal().error(f"expected output to be written, found: {error.strerror}", "")
    return UsageError.exit_code


def _status() -> int:
    """Run the command; return its exit status."""
    import click

    try:
        status = cli(standalone_mode=False)
    except click.exceptions.Exit as leaving:
        status = leaving.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        Terminal().help(error.format_message())
        status = 2
    except click.ClickException as error:
        Terminal().error(error.format_message(), advice.help_of())
        status = 2
    except interrupt.Interrupted as stop:
        left = (
            f"{stop.written} has what is known, marked incomplete" if stop.written else "no report is written"
        )
        Terminal().error(f"interrupted by {stop}: {left}", advice.again())
        status = stop.exit_status
    except (click.Abort, KeyboardInterrupt):
        Terminal().error("interrupted", advice.again())
        status = 130
    except VerifyError as error:
        Terminal().error(str(error), advice.after(error))
        status = error.exit_code
    except OutputClosed:
        return _lost(BrokenPipeError())
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            # Of a path that was typed, or that a file has which somebody else wrote.
            shown = f"{str(error.filename)[:_SHOWN]}…"
            Terminal().error(f"expected a path, found one that is too long: {shown}", advice.help_of())
            return UsageError.exit_code
        if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            return _internal(error)
        return _lost(error)
    except Exception as error:
        return _internal(error)
    return status if isinstance(status, int) else 0


def _internal(error: Exception) -> int:
    if os.environ.get("VERIFY_DEBUG"):
        raise error
    what = f"{type(error).__name__}: {error}"
    Terminal().error(f"internal fault: {what}", f"VERIFY_DEBUG=1 {advice.again()}")
    return InternalError.exit_code
