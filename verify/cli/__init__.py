"""The command line: a module for each command, one for the terminal, one for signals."""

from __future__ import annotations

import os
import sys

from verify.cli import advice, interrupt
from verify.cli.commands import cli
from verify.cli.terminal import Terminal
from verify.errors import InternalError, VerifyError


def main() -> None:
    """Run the command line; the exit status says what came of it.

    0 all proved, 1 something refuted, 2 usage or bad input, 3 undecided, 70 internal fault.
    """
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
    except BrokenPipeError:
        sys.stderr.close()
        status = 141
    except Exception as error:
        if os.environ.get("VERIFY_DEBUG"):
            raise
        what = f"{type(error).__name__}: {error}"
        Terminal().error(f"internal fault: {what}", f"VERIFY_DEBUG=1 {advice.again()}")
        status = InternalError.exit_code
    sys.exit(status if isinstance(status, int) else 0)
