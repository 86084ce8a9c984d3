"""Find out whether the real bytes reach the entry on QEMU's machine, and if not, why.

QEMU's TCG has an MMU with a TLB, exception levels, traps and alignment checks, but neither caches nor
reordering. So it does not notice a missing barrier or missing cache maintenance.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kexec_verify.bare_metal import image as at
from kexec_verify.bare_metal import scene as scenes
from kexec_verify.bare_metal.machine import Machine, Report
from kexec_verify.bare_metal.scene import Scene
from kexec_verify.bare_metal.startup import ENTERED, EXCEPTION_EL1, EXCEPTION_EL2
from kexec_verify.specs.boot_protocol import DAIF_MASK, SCTLR_MMU_OFF

_CLASSES = {
    0x00: "undefined instruction",
    0x07: "access to SIMD registers",
    0x0E: "illegal state",
    0x15: "SVC",
    0x16: "HVC",
    0x17: "SMC",
    0x18: "trapped system instruction",
    0x20: "instruction abort of EL0",
    0x21: "instruction abort",
    0x22: "misaligned PC",
    0x24: "data abort of EL0",
    0x25: "data abort",
    0x26: "misaligned SP",
    0x3C: "BRK",
}
_SCTLR_MMU = 1 << 0 | 1 << 2 | 1 << 25  # M, C and EE
_OWN_HVC = 1
"""Immediate of the caller's second HVC."""


@dataclass(frozen=True)
class Outcome:
    """The result of a run.

    :param entered: the entry was reached, with all that it must find there.
    :param reason: one sentence: why not; of what was entered, where.
    """

    entered: bool
    reason: str


def enter_routine(
    code: bytes,
    arch_offset: int,
    page_size: int = 4096,
    el2: bool = False,
    stub: bytes | None = None,
    machine: Machine | None = None,
) -> Outcome:
    """Run the routine that takes a kimage, over each shape of list.

    :param code: its bytes, from its entry on.
    :param arch_offset: of struct kimage_arch in struct kimage.
    :param el2: the kernel goes on at EL2, through the hyp stub in ``stub``.
    :param machine: of that page size; None for one of its own.
    """
    if el2 and stub is None:
        raise ValueError("expected the stub's bytes for a run through EL2")
    below = stub if el2 else None
    return _all(
        (scenes.routine(code, arch_offset, page_size, name, below) for name in scenes.LISTS),
        page_size,
        machine,
    )


def enter_restart(
    code: bytes,
    page_size: int = 4096,
    stub: bytes | None = None,
    machine: Machine | None = None,
    sctlr: int = SCTLR_MMU_OFF,
) -> Outcome:
    """Run the restart code on the idmap: to the entry at EL1, and through ``stub`` to the entry at EL2."""
    whole_paths = (None,) if stub is None else (None, stub)
    return _all((scenes.soft_restart(code, page_size, way, sctlr) for way in whole_paths), page_size, machine)


def enter_stub(
    stub: bytes, page_size: int = 4096, machine: Machine | None = None, sets_vectors: bool = True
) -> Outcome:
    """Ask the stub's vectors for HVC_SOFT_RESTART and, if they answer that too, for HVC_SET_VECTORS."""
    asked = (scenes.stub_restart, scenes.stub_set_vectors)[: 2 if sets_vectors else 1]
    return _all((ask(stub, page_size) for ask in asked), page_size, machine)


def _all(each: Iterable[Scene], page_size: int, machine: Machine | None) -> Outcome:
    """Return the outcome of the first run that does not enter, or of the last run."""
    if machine is None:
        with Machine(page_size) as own:
            return _all(each, page_size, own)
    outcome = Outcome(False, "there is no run")
    for scene in each:
        outcome = judged(scene, machine.run(scene))
        if not outcome.entered:
            break
    return outcome


def judged(scene: Scene, report: Report) -> Outcome:
    """Return the outcome that a run's report shows."""
    if report.status == 0:
        return Outcome(False, f"the run hangs at {_place(scene, report.pc)}")
    if report.status in (EXCEPTION_EL1, EXCEPTION_EL2):
        if scene.ends_at_el2 and report.status == EXCEPTION_EL2:
            return _told_by_vectors(scene, report)
        return Outcome(False, _exception(scene, report))
    if report.status != ENTERED or scene.ends_at_el2:
        return Outcome(False, f"the report says {report.status:#x}, which is none of a run's ends")
    wrong = [*_wrong_registers(scene, report), *_wrong_pages(scene, report)]
    if wrong:
        return Outcome(False, f"the entry is reached with {wrong[0]}")
    return Outcome(True, f"the entry is reached at EL{scene.currentel >> 2}")


def _wrong_registers(scene: Scene, report: Report) -> Iterable[str]:
    daif, currentel, sctlr, sctlr_el2 = report.values[4:8]
    for i, wanted in enumerate(scene.exits):
        if report.values[i] != wanted:
            yield f"x{i} = {report.values[i]:#x}, not {wanted:#x}"
    if currentel != scene.currentel:
        yield f"CurrentEL = {currentel:#x}, not {scene.currentel:#x}"
    if daif & DAIF_MASK != DAIF_MASK:
        yield f"DAIF = {daif:#x}: not all is masked"
    if sctlr != scene.sctlr:
        yield f"SCTLR_EL1 = {sctlr:#x}, not {scene.sctlr:#x}"
    if currentel == 2 << 2 and sctlr_el2 & _SCTLR_MMU:
        yield f"SCTLR_EL2 = {sctlr_el2:#x}: MMU, cache or big-endian accesses are on"


def _wrong_pages(scene: Scene, report: Report) -> Iterable[str]:
    """Yield errors in pages that the next kernel reads: copies, adjacent pages, entry, device tree."""
    image, copied = scene.image, dict(scene.copied)
    for slot in (*at.DEST, *at.BESIDE, at.START, at.DTB):
        wanted, found = image.page(copied.get(slot, slot)), image.page(slot, report.pages)
        if wanted != found:
            where = next(i for i, (a, b) in enumerate(zip(wanted, found, strict=True)) if a != b)
            what = "a copied page" if slot in copied else "a page that nothing is copied to"
            yield f"{what}, {image.pa(slot):#x}, wrong from its byte {where:#x} on"


def _told_by_vectors(scene: Scene, report: Report) -> Outcome:
    """Require that the caller's second HVC went to the vectors that HVC_SET_VECTORS was to set."""
    syndrome = report.values[1]
    caller = scene.registers.entry
    if syndrome >> 26 != 0x16 or syndrome & 0xFFFF != _OWN_HVC or report.values[2] != caller + 8:
        return Outcome(False, _exception(scene, report))
    if report.values[4] & DAIF_MASK != DAIF_MASK:
        return Outcome(False, f"HVC_SET_VECTORS returns with PSTATE {report.values[4]:#x}: not all is masked")
    return Outcome(True, "HVC_SET_VECTORS sets the vectors and returns")


def _exception(scene: Scene, report: Report) -> str:
    vector, syndrome, link, fault, _ = report.values[:5]
    what = _CLASSES.get(syndrome >> 26 & 0x3F, "exception")
    level = 1 if report.status == EXCEPTION_EL1 else 2
    return (
        f"{what} is taken to EL{level} (vector {vector}) from {_place(scene, link)}:"
        f" ESR {syndrome:#x}, ELR {link:#x}, FAR {fault:#x}"
    )


def _place(scene: Scene, address: int) -> str:
    name, base, size = scene.code
    return f"{name}+{address - base:#x}" if base <= address < base + size else f"{address:#x}"
