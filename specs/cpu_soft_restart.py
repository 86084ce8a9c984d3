"""What the restart code does: the MMU goes off and the entry is reached, here or through EL2.

Source: arch/arm64/kernel/cpu-reset.S; before 5.16 the function is called __cpu_soft_restart.
Arguments: x0 el2_switch, x1 entry, x2 to x4 arguments for it.
"""

from __future__ import annotations

from kexec_verify.logic import And, Formula, Term
from kexec_verify.specs.hyp_stub import HVC_SOFT_RESTART


def enters(before: dict[str, Term], after: dict[str, Term], target: Term) -> Formula:
    """The entry is reached with its three arguments in x0 to x2; x3 is not written."""
    return And(
        target == before["x1"],
        after["x0"] == before["x2"],
        after["x1"] == before["x3"],
        after["x2"] == before["x4"],
        after["x3"] == before["x3"],
    )


def asks_stub(before: dict[str, Term], at_hvc: dict[str, Term]) -> Formula:
    """The HVC requests HVC_SOFT_RESTART, with entry and arguments in their registers."""
    kept = (at_hvc[f"x{i}"] == before[f"x{i}"] for i in range(1, 5))
    return And(at_hvc["x0"] == HVC_SOFT_RESTART, *kept)
