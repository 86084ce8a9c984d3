"""What becomes of the exit status when standard output goes away: never 1, which means refuted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")


def verify(command: str) -> int:
    """Exit status of verify in a pipeline, as its shell saw it."""
    script = f"set +e; {sys.executable} -m kexec_verify {command}; exit"
    return subprocess.run(["bash", "-c", script], capture_output=True, timeout=120, check=False).returncode


@pytest.mark.parametrize("command", ["list", "assumptions", "show reloc-step"])
def test_closed_pipe_is_no_refutation(command):
    assert verify(f"{command} | true; exit ${{PIPESTATUS[0]}}") in (0, 141)


def test_closed_pipe_is_noticed():
    # Nothing is left to read from when the command begins.
    assert verify("list > >(exec 0<&-; exit) ; true") in (0, 141)


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
def test_full_output_is_bad_input_and_no_fault():
    assert verify("list > /dev/full; exit $?") == 2


def test_error_that_nobody_catches_is_an_internal_fault():
    code = "import kexec_verify.cli, sys; sys.excepthook = kexec_verify.cli._fault; raise ValueError"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 70
