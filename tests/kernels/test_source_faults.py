"""Faults seeded into the source of a kernel: each is refuted, at the line where it is."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from kexec_verify.report.model import Run
from kexec_verify.report.read import read_run
from kexec_verify.target.source import source_lines
from kexec_verify.verdict import Verdict

from tests.kernel_source import Fault, builder, faulty_kernel, kernel_tree

KERNEL, MM = "arch/arm64/kernel", "arch/arm64/mm"
C, ASM, RESTART = f"{KERNEL}/machine_kexec.c", f"{KERNEL}/relocate_kernel.S", f"{KERNEL}/cpu-reset.S"
CACHE, COPY, MMU = f"{MM}/cache.S", f"{MM}/trans_pgd.c", f"{MM}/mmu.c"
CONFIGURATION = "gcc"

pytestmark = [pytest.mark.campaign, pytest.mark.toolchain, pytest.mark.slow]


@dataclass(frozen=True)
class Seeded:
    """A fault, and what is to be refuted because of it.

    :param away: how many lines the place that the counterexample names is from the wrong line. It is not 0
        where something is missing: then the place is where it would have been needed.
    """

    fault: Fault
    property: str
    away: int = 0


FAULTS = {
    "first segment is not flushed": Seeded(Fault(C, r"\(i = 0;", "(i = 1;"), "postload-segments-clean"),
    "last segment is not flushed": Seeded(
        Fault(C, r"i < kimage", "i + 1 < kimage"), "postload-segments-clean"
    ),
    "length of the flush": Seeded(Fault(C, r"\[i\]\.memsz\);", "[i].bufsz);"), "postload-segments-clean"),
    "length of the copy": Seeded(
        Fault(C, r"(= __relocate_new_ker.*);", r"\1 - 8;"), "postload-copies-routine"
    ),
    "address of the routine": Seeded(
        Fault(C, r"__pa\(reloc_code\)", "__pa(kimage)"), "postload-copies-routine"
    ),
    "error is ignored": Seeded(Fault(C, r"if \(rc\)", "if (0)", 1), "postload-tables"),
    "sign of phys_offset": Seeded(Fault(C, r"\) - \(long\)kimage", ") + (long)kimage"), "postload-tables"),
    "interrupts are not masked": Seeded(Fault(C, r"local_daif_mask\(\);", ";"), "inplace-restart"),
    "wrong mask": Seeded(Fault(C, r"head & IND_DONE", "head & IND_SOURCE", 1), "inplace-restart"),
    "arguments in wrong order": Seeded(
        Fault(C, r"kimage->start, kimage->arch\.dtb_mem", "kimage->arch.dtb_mem, kimage->start"),
        "inplace-restart",
    ),
    "wrong table": Seeded(
        Fault(C, r"_ttbr0\(kimage->arch\.ttbr0", "_ttbr0(kimage->arch.ttbr1"), "handover-to-routine"
    ),
    "wrong register as dtb": Seeded(Fault(ASM, r"mov\tx0, x18", "mov\tx0, x17"), "reloc-entry-state"),
    "line is invalidated, not cleaned": Seeded(Fault(ASM, r"civac", "ivac"), "reloc-clean-to-poc"),
    "isb is missing": Seeded(Fault(ASM, r"^\tisb$", "\tnop"), "reloc-icache-invalid"),
    "entry without dtb": Seeded(Fault(RESTART, r"mov\tx0, x2", "mov\tx0, x3"), "restart-enters"),
    "page stays read-only": Seeded(
        Fault(COPY, r"__set_pte\(dst_ptep, pte_mkwrite_novma\(pte\)\)", "__set_pte(dst_ptep, pte)"),
        "tables-copy-writable",
    ),
    "boot maps without PTE_DIRTY": Seeded(
        Fault(MMU, r"pgprot_tagged\(PAGE_KERNEL\)", "__pgprot(pgprot_val(PAGE_KERNEL) & ~PTE_DIRTY)", 1),
        "tables-copy-writable",
    ),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kernel_tree(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def out(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the objects of defconfig were built with GCC."""
    folder = tmp_path_factory.mktemp("out")
    builder().build(tree, folder, CONFIGURATION)
    return folder


def verified(linked: Path, wanted: str, place: Path) -> Run:
    command = [sys.executable, "-m", "kexec_verify", "run", str(linked), "--property", wanted]
    done = subprocess.run([*command, "--reports", str(place / "reports")], capture_output=True, text=True)
    assert done.returncode == 1, (done.stdout, done.stderr)
    return read_run(place / "reports" / linked.name / "run.json")


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_source_is_refuted_at_its_line(name: str, tree: Path, out: Path, tmp_path: Path):
    seeded = FAULTS[name]
    linked, line = faulty_kernel(seeded.fault, tree, out, CONFIGURATION, tmp_path)
    run = verified(linked, seeded.property, tmp_path)
    record = next(r for r in run.properties if r.id == seeded.property)
    assert record.verdict is Verdict.REFUTED
    assert record.counterexample is not None
    at = record.counterexample["at"]
    file, _, number = source_lines(linked, [at])[at].rpartition(":")
    assert (Path(file).name, int(number) - line) == (Path(seeded.fault.file).name, seeded.away)
