"""What machine_kexec hands over, to the restart code or to the relocation routine.

Sources: arch/arm64/kernel/machine_kexec.c (machine_kexec), arch/arm64/kernel/cpu-reset.S
(cpu_soft_restart, before 5.16 __cpu_soft_restart), arch/arm64/include/asm/mmu_context.h
(cpu_install_idmap, cpu_install_ttbr0).
"""

from __future__ import annotations

from dataclasses import dataclass

from kexec_verify.logic import And, Formula, If, Term, const


@dataclass(frozen=True)
class Fields:
    """The fields of struct kimage that machine_kexec reads, as 64-bit words, and the pointer to it."""

    kimage: Term
    head: Term
    start: Term
    dtb_mem: Term
    kern_reloc: Term
    el2_vectors: Term
    ttbr0: Term
    t0sz: Term


def el2_switch(stub_below: Formula) -> Term:
    """Whether the restart code shall go through EL2."""
    return If(stub_below, const(1), const(0))


def restarts_image(x: dict[str, Term], fields: Fields, stub_below: Formula) -> Formula:
    """The restart code's arguments are el2_switch, start, dtb_mem, 0, 0."""
    return And(
        x["x0"] == el2_switch(stub_below),
        x["x1"] == fields.start,
        x["x2"] == fields.dtb_mem,
        x["x3"] == 0,
        x["x4"] == 0,
    )


def restarts_routine(x: dict[str, Term], fields: Fields, stub_below: Formula) -> Formula:
    """The restart code's arguments are el2_switch, kern_reloc, and the routine's: head, start, dtb_mem."""
    return And(
        x["x0"] == el2_switch(stub_below),
        x["x1"] == fields.kern_reloc,
        x["x2"] == fields.head,
        x["x3"] == fields.start,
        x["x4"] == fields.dtb_mem,
    )


def calls_routine(x: dict[str, Term], target: Term, fields: Fields) -> Formula:
    """The routine is called at kern_reloc with the kimage."""
    return And(target == fields.kern_reloc, x["x0"] == fields.kimage)
