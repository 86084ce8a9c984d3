"""A library that ends the process does not choose what the exit status says."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

BINARY = Path(__file__).resolve().parents[3] / "binaries" / "kimage-mmu-4k-gcc.elf"
SCRIPT = """
import os, sys
from kexec_verify.cli.supervise import supervised
def command():
    {do}
    return 1
sys.exit(supervised(command))
"""


@pytest.mark.parametrize(
    ("do", "status"),
    [
        ("pass", 1),
        ("os._exit(1)", 70),
        ("os._exit(0)", 70),
        ("os.abort()", 70),
        ("os.kill(os.getpid(), 15)", 143),
    ],
)
def test_status_is_the_command_s_own(do, status):
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(do=do)], capture_output=True, text=True)
    assert done.returncode == status
    assert ("internal fault" in done.stderr) == (status == 70)


@pytest.mark.slow
@pytest.mark.parametrize("mebibytes", [250, 350, 450, 550])
def test_little_address_space_is_no_refutation(tmp_path, mebibytes):
    limit = mebibytes << 20
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "kexec_verify",
            "run",
            str(BINARY),
            "--no-cache",
            "--reports",
            str(tmp_path),
            "-j1",
        ],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    if mebibytes == 550 and done.returncode == 0:  # enough, with a small C library and interpreter
        assert "11 PROVED" in done.stdout
        return
    assert done.returncode == 70
    assert "internal fault" in done.stderr or "MemoryError" in done.stderr


@pytest.mark.parametrize(("is_running", "status"), [(True, 0), (False, 130)])
def test_interrupt_that_a_solver_s_callback_prints(is_running, status):
    """bitwuzla prints what its callback raises, through sys.excepthook, and goes on."""
    script = (
        "import sys\n"
        "import kexec_verify.cli as cli\n"
        "from kexec_verify.cli.interrupt import Interrupted\n"
        f"cli._is_running = {is_running}\n"
        "cli._fault(Interrupted, Interrupted(2), None)\n"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == status
