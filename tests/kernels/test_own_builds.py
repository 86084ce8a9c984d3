"""Objects of kexec's code, built from Debian's kernel source in many configurations: each is decided."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from kexec_verify.report.read import read_run
from kexec_verify.verdict import Verdict

from tests.kernel_source import builder, kernel_tree

pytestmark = [pytest.mark.campaign, pytest.mark.toolchain, pytest.mark.slow]

PROVED = (
    "gcc",
    "clang",
    "gcc-Os",
    "clang-Os",
    "gcc-4k-39",
    "gcc-16k-47",
    "clang-16k-52",
    "gcc-64k-48",
    "clang-scs",
    "gcc-kcov",
    "gcc-ubsan",
    "clang-ubsan-trap",
    "gcc-lockdep",
)
"""Configurations of which all is proved but the waived deviation."""
KCFI = {"handover-to-routine", "kexec-goes-on"}
"""What is refuted with kCFI: the kernel's own fault (docs/findings.md)."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kernel_tree(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


def verdicts(tree: Path, out: Path, name: str) -> dict[str, Verdict]:
    """Build a configuration; return the verdict on each property that is not waived."""
    linked = builder().build(tree, out, name)
    command = [sys.executable, "-m", "kexec_verify", "run", str(linked), "--reports", str(out / "reports")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode in (0, 1, 3), (done.stdout, done.stderr)
    run = read_run(out / "reports" / linked.name / "run.json")
    return {record.id: record.verdict for record in run.properties if not record.waiver}


@pytest.mark.parametrize("name", PROVED)
def test_own_build_is_proved(name: str, tree: Path, out: Path):
    assert Counter(verdicts(tree, out, name).values()) == {Verdict.PROVED: 28}


def test_own_build_with_kcfi_is_refuted(tree: Path, out: Path):
    found = verdicts(tree, out, "clang-kcfi")
    assert {name for name, verdict in found.items() if verdict is Verdict.REFUTED} == KCFI
    assert found["tables-copy-writable"] is Verdict.PROVED


def test_own_build_with_kasan_is_not_refuted(tree: Path, out: Path):
    """Where its linear map ends is not known, so what depends on that is undecided."""
    assert set(verdicts(tree, out, "gcc-kasan-outline").values()) == {Verdict.PROVED, Verdict.UNSUPPORTED}
