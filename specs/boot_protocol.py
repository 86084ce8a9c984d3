"""What must hold when control reaches the next kernel (or purgatory).

Source: Documentation/arch/arm64/booting.rst, "Call the kernel image".
"""

from __future__ import annotations

from typing import Any

from kexec_verify.logic import And, Formula, Or, Term

SCTLR_M = 1 << 0
SCTLR_C = 1 << 2
SCTLR_EE = 1 << 25  # data accesses are big-endian
SCTLR_MMU_OFF = 0x3050_0800
"""SCTLR_EL1 with its RES1 bits and nothing else (arch/arm64/include/asm/sysreg.h, INIT_SCTLR_EL1_MMU_OFF)."""
SCTLR_CLEARED = 0x0020_100F
"""M, A, C, SA, I and IESB: what kernels before 5.11 clear instead (asm/sysreg.h, SCTLR_ELx_FLAGS)."""
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


def sctlr_is_off(sctlr: Term) -> Formula:
    """SCTLR_EL1 is the kernel's value with the MMU off: the RES1 bits, none of WXN, A, SA, I."""
    return sctlr == SCTLR_MMU_OFF


def sctlr_is_cleared(sctlr: Term, before: Term) -> Formula:
    """SCTLR_EL1 is the kernel's value with the MMU off, or the one before without M, A, C, SA, I and IESB.

    The latter is right before 5.11, where __cpu_soft_restart keeps the register's other bits.
    """
    return Or(sctlr_is_off(sctlr), sctlr == (before & ~SCTLR_CLEARED))


def masked(daif: Term) -> Formula:
    """Debug, SError, IRQ and FIQ are masked."""
    return (daif & DAIF_MASK) == DAIF_MASK


def soft_restart_call(x: dict[str, Any], start: Term, dtb: Term) -> Formula:
    """The arguments of HVC_SOFT_RESTART: entry point, then the three arguments for it."""
    return And(x["x0"] == HVC_SOFT_RESTART, x["x1"] == start, x["x2"] == dtb, x["x3"] == 0, x["x4"] == 0)
