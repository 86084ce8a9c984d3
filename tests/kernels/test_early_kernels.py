"""Debian's 5.10, whose machine_kexec flushes the image and copies the routine (before 5.12)."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.layout import layout_of
from kexec_verify.kexec.locate import find_routine
from kexec_verify.kexec.machine_kexec import NAME, MachineKexec
from kexec_verify.prove.discharge import Discharger, Result, decide
from kexec_verify.refute.functions.search import refute
from kexec_verify.report.model import Run
from kexec_verify.target import Kernel, open_target
from kexec_verify.target.debian import in_suite, newest
from kexec_verify.verdict import Verdict

pytestmark = pytest.mark.kernel

SUITE, PAGE = "bullseye", 4096
NOP = 0xD503201F
X1_IS_8, X1_IS_HALF_A_PAGE = 0xD2800101, 0xD2810001  # mov x1, #8; mov x1, #0x800
BLR = 0xD63F0000  # any register in bits 9 to 5


def package(require_tool, flavour: str) -> str:
    require_tool("apt-get", "apt")
    name = newest("5.10", flavour, SUITE)
    if name is None:
        pytest.skip(f"the suite holds no linux-image of series 5.10, flavour {flavour}")
    return in_suite(f"debian:{name}", SUITE)


@pytest.fixture(scope="module")
def target(require_tool) -> str:
    return package(require_tool, "arm64")


@pytest.mark.parametrize("flavour", ["arm64", pytest.param("cloud-arm64", marks=pytest.mark.campaign)])
def test_newest_kernel_is_proved(require_tool, tmp_path: Path, flavour: str):
    command = [sys.executable, "-m", "kexec_verify", "run", package(require_tool, flavour)]
    command += ["--reports", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.glob("*/run.json")
    run = msgspec.json.decode(path.read_bytes(), type=Run)
    assert [record.id for record in run.properties if record.verdict is not Verdict.PROVED] == []
    assert {record.theorem for record in run.properties} == {f"T{i}" for i in range(1, 9)}
    assert run.function.variant == "registers"
    # Every image goes through the routine, which invalidates the instruction cache: nothing is waived.
    assert "waived" not in done.stdout
    assumed = {assumption.id for assumption in run.assumptions}
    assert {"crash-image-flushed", "vabits-actual", "list-kept-clean", "objects-apart"} <= assumed
    assert [a.id for a in run.assumptions if a.stated and not a.witness] == [], "assumptions that may be void"
    assert {end.kind for end in run.ends} == {"BUG", "WARN"}
    assert [f.name for f in run.functions if f.loops and not f.invariants] == []


@functools.cache
def opened(target: str) -> Kernel:
    return open_target(target)


def context_of(kernel: Kernel) -> KexecContext:
    return KexecContext(kernel, layout_of(kernel, find_routine(kernel), None), PAGE)


def calls(kernel: Kernel, callee: str) -> list[int]:
    """Addresses of machine_kexec's calls of the function, in order; "" stands for a call by a register."""
    code = context_of(kernel).code(NAME)

    def called(at: int) -> bool:
        target = code.at(at).call_target
        return target is not None and callee in kernel.symbols_at(target)

    if not callee:
        return [at for at in code.addresses if code.at(at).word & ~(0x1F << 5) == BLR]
    return [at for at in code.addresses if called(at)]


def patched(kernel: Kernel, at: int, word: int) -> Kernel:
    return kernel.patched(at, word.to_bytes(4, "little"))


def proof_of(kernel: Kernel) -> MachineKexec:
    proof = MachineKexec(context_of(kernel), decide, True, True, find_routine(kernel))
    proof.prove()
    return proof


def failing(proof: MachineKexec, *names: str) -> list[Result]:
    required = [obligation for obligation in proof.obligations if obligation.name in names]
    assert required
    return [r for r in Discharger(10).discharge(required) if r.verdict is not Verdict.PROVED]


# A callee, which call of it, how many instructions before that another is put, and what fails then.
FAULTS = {
    "the control page is not flushed": ("__flush_dcache_area", 0, 0, NOP, "pl-code-clean"),
    "stale instructions may be fetched": ("__flush_icache_range", 0, 0, NOP, "pl-code-fetchable"),
    "a range of instructions ends at its length": (
        "__flush_icache_range",
        0,
        2,
        X1_IS_8,
        "pl-code-fetchable",
    ),
    "half of a source page is flushed": ("__flush_dcache_area", 2, 1, X1_IS_HALF_A_PAGE, "pl-list-clean"),
    "list entries are not flushed": ("__flush_dcache_area", 3, 0, NOP, "pl-list-clean"),
    "segments are not flushed": ("kexec_segment_flush", 0, 0, NOP, "pl-segments-clean"),
    "another page is entered": ("", 0, 3, X1_IS_8, "mk-handover-routine"),
}


ALWAYS = {"the control page is not flushed", "segments are not flushed", "another page is entered"}


@pytest.mark.parametrize(
    "fault",
    [pytest.param(fault, marks=() if fault in ALWAYS else pytest.mark.campaign) for fault in FAULTS],
)
def test_fault_is_refuted_by_a_run(target: str, fault: str):
    callee, number, before, word, name = FAULTS[fault]
    kernel = opened(target)
    proof = proof_of(patched(kernel, calls(kernel, callee)[number] - 4 * before, word))
    found = failing(proof, name)
    assert found
    assert any(refute(proof, result, "a property") is not None for result in found)
