"""Faults seeded into the source of a kernel: each is refuted, at the line where it is."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from kexec_verify.report.model import Run
from kexec_verify.report.read import read_run
from kexec_verify.target.source import source_lines
from kexec_verify.verdict import Verdict

from tests.kernel_source import ROOT, builder, kernel_tree, run

C, ASM = "machine_kexec.c", "relocate_kernel.S"

pytestmark = [pytest.mark.campaign, pytest.mark.toolchain, pytest.mark.slow]


@dataclass(frozen=True)
class Fault:
    """One wrong line of source.

    :param old: a pattern of what is replaced, in the ``number``-th line that it matches, by ``new``.
    :param property: what is refuted.
    :param away: how many lines from the fault the place is that the counterexample names. It is not 0 where
        something is missing: then the place is where it would have been needed.
    """

    file: str
    old: str
    new: str
    property: str
    number: int = 0
    away: int | None = 0


FAULTS = {
    "first segment is not flushed": Fault(C, r"\(i = 0;", "(i = 1;", "postload-segments-clean"),
    "last segment is not flushed": Fault(C, r"i < kimage", "i + 1 < kimage", "postload-segments-clean"),
    "length of the flush": Fault(C, r"\[i\]\.memsz\);", "[i].bufsz);", "postload-segments-clean"),
    "length of the copy": Fault(C, r"(= __relocate_new_ker.*);", r"\1 - 8;", "postload-copies-routine"),
    "address of the routine": Fault(C, r"__pa\(reloc_code\)", "__pa(kimage)", "postload-copies-routine"),
    "error is ignored": Fault(C, r"if \(rc\)", "if (0)", "postload-tables", 1),
    "sign of phys_offset": Fault(C, r"\) - \(long\)kimage", ") + (long)kimage", "postload-tables"),
    "interrupts are not masked": Fault(C, r"local_daif_mask\(\);", ";", "inplace-restart"),
    "wrong mask": Fault(C, r"head & IND_DONE", "head & IND_SOURCE", "inplace-restart", 1),
    "arguments in wrong order": Fault(
        C, r"kimage->start, kimage->arch\.dtb_mem", "kimage->arch.dtb_mem, kimage->start", "inplace-restart"
    ),
    "wrong table": Fault(
        C, r"_ttbr0\(kimage->arch\.ttbr0", "_ttbr0(kimage->arch.ttbr1", "handover-to-routine"
    ),
    "wrong register as dtb": Fault(ASM, r"mov\tx0, x18", "mov\tx0, x17", "reloc-entry-state"),
    "line is invalidated, not cleaned": Fault(ASM, r"civac", "ivac", "reloc-clean-to-poc"),
    "isb is missing": Fault(ASM, r"^\tisb$", "\tnop", "reloc-icache-invalid"),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kernel_tree(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def built(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of objects of defconfig, built with GCC."""
    out = tmp_path_factory.mktemp("out")
    builder().build(tree, out, "gcc")
    return out / "gcc"


def seeded(fault: Fault, tree: Path, place: Path) -> tuple[Path, int]:
    """The file with the fault, and the number of the line that has it."""
    lines = (tree / "arch" / "arm64" / "kernel" / fault.file).read_text().splitlines()
    found = [i for i, line in enumerate(lines) if re.search(fault.old, line)]
    assert len(found) > fault.number, "the pattern matches no line of this source"
    at = found[fault.number]
    lines[at] = re.sub(fault.old, fault.new, lines[at])
    path = place / fault.file
    path.write_text("\n".join(lines) + "\n")
    return path, at + 1


def target(fault: Fault, tree: Path, built: Path, place: Path) -> tuple[Path, int]:
    """The linked objects with the fault, and the number of the line that has it."""
    source, line = seeded(fault, tree, place)
    name = Path(fault.file).stem
    saved = (built / "arch" / "arm64" / "kernel" / f".{name}.o.cmd").read_text().splitlines()[0]
    command = shlex.split(saved.partition(":= ")[2].partition(" ; ")[0])
    origin = str(tree.resolve() / "arch" / "arm64" / "kernel" / fault.file)
    assert command[-1] == origin
    command[command.index("-o") + 1] = str(place / f"{name}.o")
    command[-1:] = ["-iquote", str(Path(origin).parent), str(source)]
    run(command, built)
    module = builder()
    objects = [
        str(place / f"{name}.o") if Path(path).stem == name else str(built / path) for path in module.OBJECTS
    ]
    linked = place / "kexec.elf"
    run(
        ["sh", str(ROOT / "scripts" / "link-objects.sh"), str(linked), str(built / module.LAYOUT), *objects],
        built,
    )
    return linked, line


def verified(linked: Path, wanted: str, place: Path) -> Run:
    command = [sys.executable, "-m", "kexec_verify", "run", str(linked), "--property", wanted]
    done = subprocess.run([*command, "--reports", str(place / "reports")], capture_output=True, text=True)
    assert done.returncode == 1, (done.stdout, done.stderr)
    return read_run(place / "reports" / linked.name / "run.json")


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_source_is_refuted_at_its_line(name: str, tree: Path, built: Path, tmp_path: Path):
    fault = FAULTS[name]
    linked, line = target(fault, tree, built, tmp_path)
    record = next(r for r in verified(linked, fault.property, tmp_path).properties if r.id == fault.property)
    assert record.verdict is Verdict.REFUTED
    assert record.counterexample is not None
    at = record.counterexample["at"]
    named = source_lines(linked, [at])[at]
    told = f"the fault is in line {line}, the place named is {named}"
    assert Path(named.rpartition(":")[0]).name == fault.file, told
    if fault.away is not None:
        assert int(named.rpartition(":")[2]) - line == fault.away, told
