"""Ctrl-C and SIGTERM: raised where a run can still write down what is known."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_received = 0
_deferred = False


class Interrupted(BaseException):
    """A signal asks to stop; not an Exception, so that no library takes it for one of its own.

    :ivar written: the run.json of what was known, once it is written.
    """

    def __init__(self, number: int):
        self.number = number
        self.written: Path | None = None
        super().__init__(signal.Signals(number).name)

    @property
    def exit_status(self) -> int:
        """The exit status that shells expect of a process that a signal ended."""
        return 128 + self.number


def install() -> None:
    """Have both signals raise Interrupted from now on."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # A process that was started with the signal ignored (nohup) goes on ignoring it.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)


def _on_signal(number: int, frame: FrameType | None) -> None:
    global _received
    _received = number
    if not _deferred:
        raise Interrupted(number)


def check() -> None:
    """Raise if a signal came and its exception was lost in a callback from C.

    :raises Interrupted: if so.
    """
    if _received and not _deferred:
        raise Interrupted(_received)


@contextmanager
def deferred() -> Iterator[None]:
    """Have signals wait while a report is written or the engine is loaded."""
    global _deferred
    before, _deferred = _deferred, True
    try:
        yield
    finally:
        _deferred = before
