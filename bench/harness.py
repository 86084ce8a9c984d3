"""Runs one command within hard limits, and says what came of it.

A measurement is a success only if the command ended by itself, with status 0, and said the
word that it says of a success. All else is named for what it is.
"""

from __future__ import annotations

import enum
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERIFY = str(ROOT / ".venv" / "bin" / "verify")
_LIMITED = ROOT / "bench" / "limited.py"
_BY_THE_CLOCK = 5
_MEMORY_ERRORS = ("MemoryError", "bad_alloc", "out of memory", "Cannot allocate memory")


class Status(enum.StrEnum):
    """How a command ended."""

    DONE = "done"
    TIMEOUT = "timeout"
    MEMORY = "out of memory"
    ERROR = "error"


@dataclass(frozen=True)
class Measured:
    """One run of a command, with what it started: seconds, and MiB of the largest process.

    :param error: why the status is not DONE, in one line.
    :param output: the last line of standard output.
    """

    status: Status
    wall: float
    cpu: float
    memory: float
    error: str = ""
    output: str = ""

    def record(self) -> dict[str, object]:
        """What JSON keeps of it."""
        return asdict(self)


def measure(
    command: Sequence[str],
    says: str,
    seconds: float = 60.0,
    memory: int = 6 << 30,
    environment: Mapping[str, str] | None = None,
    code: int = 0,
) -> Measured:
    """Run ``command`` in the repository's root.

    :param says: what standard output holds if, and only if, the work was done.
    :param seconds: of CPU time for each process; by the clock the whole may take five times that.
    :param memory: bytes of address space for each process.
    :param code: the exit status of a success.
    """

    with tempfile.TemporaryDirectory() as name:
        report = Path(name) / "report.json"
        limits = [str(int(seconds)), str(_BY_THE_CLOCK * int(seconds)), str(memory), str(report)]
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_LIMITED), *limits, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
        )
        try:
            output, errors = process.communicate()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        wall = time.perf_counter() - started
        found = json.loads(report.read_text())
    late = found["expired"] or found["cpu"] >= seconds
    status, why = judge(found["code"], output, errors, says, late, code)
    lines = output.strip().splitlines()
    return Measured(status, wall, found["cpu"], found["memory"] / 1024, why, lines[-1] if lines else "")


def judge(code: int, output: str, errors: str, says: str, late: bool, wanted: int = 0) -> tuple[Status, str]:
    """The status of a command that ended, and why it is not DONE.

    :param code: its exit status, or minus the signal that ended it; ``wanted``: that of a success.
    :param late: its time was used up.
    """
    if late or -code == signal.SIGXCPU:
        return Status.TIMEOUT, "the time limit was reached"
    if any(text in errors or text in output for text in _MEMORY_ERRORS):
        return Status.MEMORY, "the memory limit was reached"
    if code == wanted and says in output:
        return Status.DONE, ""
    lines = [*output.strip().splitlines()[-1:], *errors.strip().splitlines()[-1:]]
    if code == wanted:
        return Status.ERROR, f"expected {says!r}, found {' / '.join(lines) or 'nothing'}"
    ending = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    return Status.ERROR, f"{ending}: {' / '.join(lines) or 'no message'}"
