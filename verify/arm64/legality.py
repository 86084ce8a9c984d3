"""Decide where an instruction is legal: at which exception level, and with whose permissions.

The decision is read from the bits of the encoding, not from a disassembler. Section numbers are those of the
Arm Architecture Reference Manual (DDI 0487).
"""

from __future__ import annotations

from kexec_verify.arm64.base import in_base, is_unpredictable, is_vector
from kexec_verify.arm64.extensions import extension

EL0, EL1, EL2, EL3 = range(4)

# C5.1.2 and AArch64.CheckSystemAccess (J1.1.3): the lowest exception level by op1 of an MRS, MSR,
# SYS or SYSL. 5 is what the *_EL12 and *_EL02 names are, which only EL2 has. 7 is Secure EL1:
# Linux runs in the Non-secure state, where only EL3 is left of it.
_LOWEST_BY_OP1 = (EL1, EL1, EL1, EL0, EL2, EL2, EL3, EL3)

_EXCEPTION_RETURNS = 0b0100  # opc of eret, eretaa, eretab (C4.1.93, unconditional branch (register))
_DEBUG_RETURN = 0b0101
_DRPS = 0xD6BF_03E0
_SVC = 1


def illegal(word: int) -> str | None:
    """Return why some CPUs may lack ``word``, or execute it differently, in words; None if all agree.

    Code that tests for an extension before it uses it is refused all the same.
    """
    if is_vector(word):
        return "floating point and SIMD: their registers have no meaning here"
    if _is_of_debug_state(word):
        return "it is UNDEFINED outside of Debug state"
    if in_base(word):
        return "it is CONSTRAINED UNPREDICTABLE" if is_unpredictable(word) else None
    name = extension(word)
    if name is None:
        return "Armv8.0-A has no such instruction"
    return f"it needs {name}, which no capability test here guards"


def _is_of_debug_state(word: int) -> bool:
    """Return whether ``word`` is DCPS1, DCPS2, DCPS3 or DRPS."""
    return word & 0xFFE0_001C == 0xD4A0_0000 or word == _DRPS


def unprivileged(word: int) -> bool:
    """Return whether ``word`` is an LDTR* or STTR*: an access with the permissions of EL0.

    C4.1.94, load/store register (unprivileged). Other unprivileged accesses need an extension
    (FEAT_MOPS, FEAT_LSUI, FEAT_GCS), and are refused for that.
    """
    return word & 0x3F20_0C00 == 0x3800_0800


def lowest_el(word: int) -> int:
    """Return the lowest exception level (0 to 3) at which ``word`` is not UNDEFINED.

    Traps (SCTLR_EL1.UMA, HCR_EL2 and the like) are not considered. At higher levels the instruction is
    defined
    too, except for what Linux never does (a *_EL1 register with HCR_EL2.E2H, SP_EL0 while it is the stack
    pointer). DCPS1 to DCPS3 and DRPS, which are UNDEFINED at every level outside of Debug state, give 3.
    """
    if word >> 24 == 0b1101_0100:
        return _exception(word)
    if word >> 22 == 0b11_0101_0100:
        return _system(word)
    if word >> 25 == 0b110_1011:
        match word >> 21 & 0b1111:
            case opc if opc == _EXCEPTION_RETURNS:
                return EL1  # C6.2.121: UNDEFINED at EL0
            case opc if opc == _DEBUG_RETURN:
                return EL3
    return EL0


def _exception(word: int) -> int:
    """Decode C4.1.93, exception generation."""
    match word >> 21 & 0b111:
        case 0:
            return EL0 if word & 0b11 == _SVC else EL1  # C6.2.130, C6.2.304: HVC and SMC
        case 0b101:
            return EL3
    return EL0  # brk, hlt


def _system(word: int) -> int:
    """Decode C4.1.93: hints, barriers, PSTATE, SYS, SYSL, MSR and MRS."""
    op0, op1, crn = word >> 19 & 0b11, word >> 16 & 0b111, word >> 12 & 0b1111
    if op0 == 0 and crn != 4:
        return EL0  # hints, barriers, wfet: CRn 4 is MSR (immediate)
    if op0 == 0 and op1 == 0 and word >> 5 & 0b111 < 3:
        return EL0  # cfinv, xaflag, axflag: flags and no part of PSTATE that is privileged
    return _LOWEST_BY_OP1[op1]
