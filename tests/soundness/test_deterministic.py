"""The same bytes get the same verdicts and the same questions, whatever the seeds."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from kexec_verify.report.model import Run

pytestmark = pytest.mark.slow

SHIPPED = Path(__file__).parents[2] / "binaries" / "regs-no-test-4k-gcc.elf"


def facts(reports: Path, seed: int) -> list[tuple]:
    """What a run with these seeds says: verdicts, texts, assumptions."""
    command = [
        sys.executable,
        "-m",
        "kexec_verify",
        "run",
        str(SHIPPED),
        "--reports",
        str(reports),
        "--seed",
        str(seed),
    ]
    environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)
    run = msgspec.json.decode((reports / SHIPPED.name / "run.json").read_bytes(), type=Run)
    return [
        (claim.id, claim.verdict, [(o.name, o.sentence, o.verdict, o.sha256) for o in claim.obligations])
        for claim in run.properties
    ]


def test_three_runs_with_different_seeds_agree(tmp_path: Path):
    first, second, third = (facts(tmp_path / str(seed), seed) for seed in (1, 2, 3))
    assert first == second == third
