"""What must hold when control reaches the next kernel (or purgatory).

Source: Documentation/arch/arm64/booting.rst, "Call the kernel image".
"""

from __future__ import annotations

from typing import Any

from verify.logic import And, Formula, Term

SCTLR_M = 1 << 0
SCTLR_C = 1 << 2
SCTLR_EE = 1 << 25  # data accesses are big-endian
DAIF_MASK = 0x3C0  # PSTATE.D, .A, .I, .F as DAIF shows them
HVC_SOFT_RESTART = 1  # arch/arm64/include/asm/virt.h


def registers(x: dict[str, Term], dtb: Term) -> Formula:
    """x0 is the device tree's address; x1, x2 and x3 are 0."""
    return And(x["x0"] == dtb, x["x1"] == 0, x["x2"] == 0, x["x3"] == 0)


def mmu_off(sctlr: Term) -> Formula:
    """MMU and data cache are off, and data accesses are little-endian.

    booting.rst leaves the endianness to the image; purgatory, which runs first after
    kexec_load, is little-endian code that does not set it.
    """
    return (sctlr & (SCTLR_M | SCTLR_C | SCTLR_EE)) == 0


def masked(daif: Term) -> Formula:
    """Debug, SError, IRQ and FIQ are masked."""
    return (daif & DAIF_MASK) == DAIF_MASK


def soft_restart_call(x: dict[str, Any], start: Term, dtb: Term) -> Formula:
    """The arguments of HVC_SOFT_RESTART: entry point, then the three arguments for it."""
    return And(x["x0"] == HVC_SOFT_RESTART, x["x1"] == start, x["x2"] == dtb, x["x3"] == 0, x["x4"] == 0)
