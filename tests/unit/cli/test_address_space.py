"""A limit on address space, as build machines have: the verdict is the same."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

BINARY = Path(__file__).resolve().parents[3] / "binaries" / "kimage-mmu-4k-gcc.elf"


@pytest.mark.slow
def test_two_gigabytes_are_enough(tmp_path):
    """Unicorn's own way is to end the process, with the status that means refuted."""
    run = subprocess.run(
        [sys.executable, "-m", "kexec_verify", "run", str(BINARY), "--reports", str(tmp_path)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30)),
    )
    assert run.returncode == 0, run.stderr
    assert "11 PROVED" in run.stdout
