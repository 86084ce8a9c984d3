"""A mutation run that is killed in the middle goes on where it broke off."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.mutant

SHIPPED = Path(__file__).parents[2] / "binaries" / "kimage-mmu-4k-gcc.elf"
MOST = 8


def command(directory: Path) -> list[str]:
    options = ["--most", MOST, "--seed", 5, "-j", 1, "--reports", directory]
    return [sys.executable, "-m", "kexec_verify", "mutate", *map(str, [SHIPPED, *options])]


def run_until(journal: Path, lines: int) -> str:
    """Starts the command, kills it once the journal has so many lines more; what it said."""
    before = len(whole_lines(journal))
    process = subprocess.Popen(
        command(journal.parents[1]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 400
    while len(whole_lines(journal)) < before + lines:
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    return process.communicate()[0]


def whole_lines(journal: Path) -> list[bytes]:
    lines = journal.read_bytes().splitlines(keepends=True) if journal.exists() else []
    return [line for line in lines if line.endswith(b"\n")]


def test_killed_run_is_taken_up_and_tries_nothing_twice(tmp_path: Path):
    journal = tmp_path / SHIPPED.name / "mutation.jsonl"
    assert run_until(journal, 2) == ""
    kept = whole_lines(journal)
    journal.write_bytes(b"".join(kept) + kept[0][:50])  # as if the kill had come within a line
    assert 2 <= len(kept) < MOST
    said = run_until(journal, MOST - len(kept))
    assert said.startswith(f"{len(kept)} of {MOST} mutants are known from")
    lines = journal.read_bytes().splitlines(keepends=True)
    assert lines[: len(kept)] == kept
    assert len({json.loads(line)["mutant"] for line in lines}) == len(lines) == MOST
