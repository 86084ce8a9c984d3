"""KVM at EL2 below a kernel at EL1 (nVHE): what its host vectors answer to HVC_SOFT_RESTART.

A crash does not tear KVM down, so kexec of a crash kernel may find KVM's vectors at EL2 and not the hyp
stub. Sources: arch/arm64/kvm/hyp/nvhe/host.S (__kvm_hyp_host_vector, __host_hvc),
arch/arm64/kvm/hyp/nvhe/hyp-init.S (__kvm_handle_stub_hvc).
"""

from __future__ import annotations

from kexec_verify.logic import And, Formula, Term
from kexec_verify.specs.boot_protocol import DAIF_MASK, mmu_off

HOST_VECTORS = "__kvm_nvhe___kvm_hyp_host_vector"
HOST_HVC = "__kvm_nvhe___host_hvc"
STUB_HANDLER = "__kvm_nvhe___kvm_handle_stub_hvc"
PHYSVIRT_OFFSET = "__kvm_nvhe_hyp_physvirt_offset"
"""The word that holds a physical address less EL2's virtual one."""

ESR_HVC = 0x16 << 26 | 1 << 25
"""ESR_EL2 of ``hvc #0`` from AArch64: EC, IL and an immediate of 0 (Arm ARM, D24.2.40)."""
HOST_STACK_BYTES = 16
"""What the host vector may store below SP_EL2: x0 and x1."""
_MODE_EL2H = 0b1001
_MODE_MASK = 0x1F


def passes(before: dict[str, Term], after: dict[str, Term], target: Term, handler: Term) -> Formula:
    """The host vector branches to the handler, with the call's x0 to x4 and EL2's SP as they were.

    :param handler: the physical address of __kvm_handle_stub_hvc.
    """
    kept = (after[name] == before[name] for name in ("x0", "x1", "x2", "x3", "x4", "sp"))
    return And(target == handler, *kept)


def returns_to_el2(after: dict[str, Term]) -> Formula:
    """The exception return goes to EL2 with its own SP, and D, A, I and F are masked."""
    spsr = after["spsr_el2"]
    return And((spsr & DAIF_MASK) == DAIF_MASK, (spsr & _MODE_MASK) == _MODE_EL2H)


def el2_mmu_off(after: dict[str, Term]) -> Formula:
    """EL2's MMU and data cache are off, and its data accesses are little-endian."""
    return mmu_off(after["sctlr_el2"])
