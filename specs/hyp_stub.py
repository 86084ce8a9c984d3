"""EL2 beneath a kernel at EL1: when the hyp stub is there, and what it answers.

Sources: arch/arm64/include/asm/virt.h (is_hyp_nvhe, HVC_*), arch/arm64/kernel/hyp-stub.S.
"""

from __future__ import annotations

from kexec_verify.logic import And, Formula, Term

BOOT_CPU_MODE_EL2 = 0xE12
CURRENT_EL2 = 2 << 2  # CurrentEL.EL at EL2
HVC_SET_VECTORS = 0
HVC_SOFT_RESTART = 1
HVC_RESET_VECTORS = 2

LOWER_EL_SYNC = 0x400
"""Offset in a vector table of the entry for a synchronous exception from a lower EL in AArch64 state.

Source: Arm ARM, D1.3.1.
"""


def hyp_stub_below(mode: tuple[Term, Term], currentel: Term) -> Formula:
    """Every CPU came up at EL2 and the kernel does not run there: an HVC reaches the stub.

    :param mode: the two 32-bit words of __boot_cpu_mode.
    """
    came_up = And(mode[0] == BOOT_CPU_MODE_EL2, mode[1] == BOOT_CPU_MODE_EL2)
    return And(came_up, currentel != CURRENT_EL2)


def soft_restart(before: dict[str, Term], after: dict[str, Term], target: Term) -> Formula:
    """What HVC_SOFT_RESTART does: x1 is entered with x2, x3 and x4 in x0, x1 and x2."""
    return And(
        target == before["x1"],
        after["x0"] == before["x2"],
        after["x1"] == before["x3"],
        after["x2"] == before["x4"],
        after["x3"] == before["x3"],
    )
