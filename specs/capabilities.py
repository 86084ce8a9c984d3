"""What a machine's capabilities mean for the code that a booting kernel patches by them.

A capability is a property of the machine that the kernel looks for at boot. Where one is set, the kernel
replaces instructions by others (arch/arm64/kernel/alternative.c). A static key is a switch that the kernel
may turn while it runs. Both are called choices here. Each is proved both ways, except where this file says
that a machine cannot have it.

The kernel's own tables number capabilities anew in each version. They are told apart by the function that
looks for them, and by the description that the kernel prints.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

PROTECTED_KVM = "KVM_PROTECTED_MODE"
HAS_MOPS = "HAS_MOPS"


@dataclass(frozen=True)
class Capability:
    """A capability that the proofs know.

    :param name: the kernel's, without ``ARM64_`` (arch/arm64/tools/cpucaps).
    :param sentence: what it means where it is set.
    :param found_by: the function that looks for it, if no other capability has the same.
    :param described: what the kernel's description of it begins with; empty if it has none.
    """

    name: str
    sentence: str
    source: str
    found_by: str = ""
    described: str = ""


CAPABILITIES = (
    Capability(
        "HAS_CACHE_DIC",
        "On every CPU, instructions fetched after an ISB are those that are clean to the point of "
        "unification: no instruction cache has to be invalidated.",
        "Arm ARM, CTR_EL0.DIC; arch/arm64/kernel/cpufeature.c, has_cache_dic",
        "has_cache_dic",
    ),
    Capability(
        "HAS_CACHE_IDC",
        "On every CPU, data need not be cleaned to the point of unification to be fetched.",
        "Arm ARM, CTR_EL0.IDC; arch/arm64/kernel/cpufeature.c, has_cache_idc",
        "has_cache_idc",
    ),
    Capability(
        "MISMATCHED_CACHE_TYPE",
        "CTR_EL0 differs between CPUs. The kernel reads a value of its own, whose lines are legal and no "
        "longer than any CPU's.",
        "arch/arm64/kernel/cpufeature.c, has_mismatched_cache_type and ftr_ctr",
        "has_mismatched_cache_type",
        "Mismatched cache type",
    ),
    Capability(
        "HAS_CNP",
        "TTBRs may have CnP, bit 0, set; it is no part of the table's address.",
        "Arm ARM, TTBR0_EL1.CnP; arch/arm64/kernel/cpufeature.c, has_useable_cnp",
        "has_useable_cnp",
        "Common not Private translations",
    ),
    Capability(
        "WORKAROUND_CAVIUM_27456",
        "A change of TTBR0_EL1 is followed by an invalidation of the instruction caches.",
        "Documentation/arch/arm64/silicon-errata.rst",
        described="Cavium erratum 27456",
    ),
    Capability(
        "WORKAROUND_REPEAT_TLBI",
        "Each TLB invalidation is made twice.",
        "Documentation/arch/arm64/silicon-errata.rst",
        described="Qualcomm erratum 1009",
    ),
    Capability(
        "WORKAROUND_CLEAN_CACHE",
        "A line is cleaned and invalidated where it would be cleaned.",
        "Documentation/arch/arm64/silicon-errata.rst",
        described="ARM errata 826319",
    ),
    Capability(
        HAS_MOPS,
        "Every CPU has instructions that copy and set memory (FEAT_MOPS), and EL2 lets the kernel use them.",
        "Arm ARM, ID_AA64ISAR2_EL1.MOPS; Documentation/arch/arm64/booting.rst, HCRX_EL2.MSCEn",
        described="Memory Copy and Memory Set instructions",
    ),
    Capability(
        "HAS_LSE_ATOMICS",
        "Every CPU has instructions that change a word of memory atomically (FEAT_LSE).",
        "Arm ARM, ID_AA64ISAR0_EL1.Atomic",
        described="LSE atomic instructions",
    ),
    Capability(
        "HAS_VA52",
        "Virtual addresses have 52 bits (FEAT_LPA2, and FEAT_LVA with pages of 64 KiB).",
        "Arm ARM, ID_AA64MMFR0_EL1.TGran4_2 and TGran16_2, ID_AA64MMFR2_EL1.VARange",
        described="52-bit Virtual Addressing",
    ),
    Capability(
        "WORKAROUND_4311569",
        "Maintenance of cache lines by address is made twice.",
        "Documentation/arch/arm64/silicon-errata.rst",
        "need_arm_si_l1_workaround_4311569",
    ),
    Capability(
        PROTECTED_KVM,
        "The hypervisor protects its guests from the kernel (kvm-arm.mode=protected).",
        "arch/arm64/kernel/cpufeature.c, is_kvm_protected_mode",
        "is_kvm_protected_mode",
        "Protected KVM",
    ),
)

PROTECTED_KVM_KEY = "kvm_protected_mode_initialized"
"""The static key that is set once protected KVM runs: both CPUs' boot modes are EL2, the kernel is at EL1."""


@dataclass(frozen=True)
class Constraint:
    """A set of choices that no machine makes.

    :param excludes: whether a set of names, of those that are set, is one.
    """

    sentence: str
    source: str
    excludes: Callable[[Collection[str]], bool]


CONSTRAINTS: tuple[Constraint, ...] = ()
"""No proof needs one so far: every set of capabilities that have a row is proved."""


def capability(found_by: str, description: str | None) -> Capability | None:
    """Return the capability that a row of the kernel's tables is about; None if the proofs know none such.

    :param found_by: the function that looks for it, by its symbol.
    """
    for known in CAPABILITIES:
        if known.found_by and known.found_by in found_by.split(", "):
            return known
        if known.described and description is not None and description.startswith(known.described):
            return known
    return None


def meaning(name: str) -> str:
    """Return what the capability called *name* says of a machine; "" for any other choice."""
    return next((known.sentence for known in CAPABILITIES if known.name == name), "")


def possible(choices: Collection[str]) -> bool:
    """Return whether a machine may have exactly the capabilities called *choices* set."""
    return not any(constraint.excludes(choices) for constraint in CONSTRAINTS)
