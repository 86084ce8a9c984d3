"""Exit statuses under a limit on memory: a library that ends the process does not choose them.

Unicorn ends the process with status 1 where it cannot allocate, and other libraries call abort; status 1
means that a property is refuted. So the command runs in a child, which says whether its status is its own.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from kexec_verify.errors import InternalError

_OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
_NEVER = "2\n"  # the kernel refuses what it may not be able to back
_OWN = b"1"
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def is_memory_limited() -> bool:
    """Return whether an allocation can fail in this process."""
    try:
        overcommit = _OVERCOMMIT.read_text()
    except OSError:
        overcommit = ""
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY or overcommit == _NEVER


def supervised(command: Callable[[], int]) -> int:
    """Return the exit status of *command*, run in a child; 70 where a library ended it."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        status = command()
        os.write(theirs, _OWN)
        os._exit(status)
    os.close(theirs)

    def forward(number: int, frame: FrameType | None) -> None:
        os.kill(child, number)

    # Ctrl-C reaches the child from the terminal; it says what is left behind.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in _FORWARDED:
        signal.signal(number, forward)
    with os.fdopen(ours, "rb") as pipe:
        own = pipe.read(1) == _OWN
    _, state = os.waitpid(child, 0)
    status = os.waitstatus_to_exitcode(state)
    if own:
        return status
    if status < 0 and -status in (signal.SIGKILL, signal.SIGINT, *_FORWARDED):
        return 128 - status
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
    message = f"verify: error: internal fault: a library ended the process with {how}: is memory limited?\n"
    os.write(2, message.encode())
    return InternalError.exit_code
