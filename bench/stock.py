"""What stock angr makes of the routine, and who sees that a `dc civac` is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from kexec_verify.arm64.lift import Code
from kexec_verify.kexec.locate import find_routine
from kexec_verify.target import open_target

from bench.compare import BINARY, Record
from bench.harness import ROOT, VERIFY, Measured, Status, measure

# VEX decodes this one, written in C: it has no stnp and no hvc.
C_BINARY = "binaries/regs-no-test-c-4k-gcc.elf"
_NOP = 0xD503_201F
_PYTHON = sys.executable


def attempts(tell: Callable[[str], None]) -> list[Record]:
    """Each engine of stock angr on each routine, with its own error where it fails."""
    found = []
    for engine in ("vex", "pcode"):
        for binary in (BINARY, C_BINARY):
            tell(f"stock angr, {engine}: {binary}")
            measured = measure([_PYTHON, "-m", "bench.stock_angr", engine, binary], "reached")
            found.append({"engine": engine, "binary": binary, **measured.record()})
    return found


def dropped_maintenance(directory: Path, tell: Callable[[str], None]) -> list[Record]:
    """A routine whose cache maintenance is replaced by a nop: VEX and this tool on it."""
    found = []
    for binary in (C_BINARY, BINARY):
        at = maintenance(binary)
        if binary == C_BINARY:
            tell(f"stock angr, vex: {binary} without its dc")
            command = [_PYTHON, "-m", "bench.stock_angr", "vex", binary, f"{at:#x}"]
            measured = measure(command, "same")
            found.append({"tool": "stock angr (VEX)", "binary": binary, "at": at, **measured.record()})
        tell(f"verify: {binary} without its dc")
        measured = _refuted(binary, at, directory)
        found.append({"tool": "verify", "binary": binary, "at": at, **measured.record()})
    return found


def maintenance(binary: str) -> int:
    """Address of the routine's instruction ``dc``."""
    code = _routine(binary)
    return next(a for a in code.addresses if code.at(a).text.startswith("dc "))


def _routine(binary: str) -> Code:
    routine = find_routine(open_target(str(ROOT / binary)))
    return Code(routine.name, routine.address, routine.code)


def _refuted(binary: str, at: int, directory: Path) -> Measured:
    """``verify run`` on the mutant; done if it is REFUTED."""
    mutant = directory / f"{Path(binary).stem}-no-dc.elf"
    code = _routine(binary)
    patch = f"{code.name}+{at - code.address:#x}={_NOP:#x}"
    extracted = measure([VERIFY, "extract", binary, str(mutant), "--patch", patch], "")
    if extracted.status is not Status.DONE:
        return extracted
    command = [VERIFY, "run", "-q", "--no-cache", str(mutant), "--property", "reloc-clean-to-poc"]
    reports = ["--reports", str(directory / "reports")]
    return measure([*command, *reports], "1 REFUTED", 180, code=1)
