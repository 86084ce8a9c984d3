"""Decide which system instructions Armv8.0-A has, on a CPU without any extension.

From the Arm Architecture Reference Manual (DDI 0487): C4.1.93 for the encodings, C5.3 to C5.5 for
cache maintenance, address translation and TLB maintenance.
"""

from __future__ import annotations

from kexec_verify.arm64.extensions import of_register

_EVERY_TLBI_EL1 = (0, 1, 2, 3, 5, 7)  # op2 of tlbi vmalle1, vae1, aside1, vaae1, vale1, vaale1

# (op1, CRn, CRm) -> each op2 of a SYS with op0 = 1.
_OPERATIONS: dict[tuple[int, int, int], tuple[int, ...]] = {
    (0, 7, 1): (0,),  # ic ialluis
    (0, 7, 5): (0,),  # ic iallu
    (3, 7, 5): (1,),  # ic ivau
    (0, 7, 6): (1, 2),  # dc ivac, isw
    (0, 7, 10): (2,),  # dc csw
    (0, 7, 14): (2,),  # dc cisw
    (3, 7, 4): (1,),  # dc zva
    (3, 7, 10): (1,),  # dc cvac
    (3, 7, 11): (1,),  # dc cvau
    (3, 7, 14): (1,),  # dc civac
    (0, 7, 8): (0, 1, 2, 3),  # at s1e1r, s1e1w, s1e0r, s1e0w
    (4, 7, 8): (0, 1, 4, 5, 6, 7),  # at s1e2*, s12e1*, s12e0*
    (6, 7, 8): (0, 1),  # at s1e3*
    (0, 8, 3): _EVERY_TLBI_EL1,  # inner shareable
    (0, 8, 7): _EVERY_TLBI_EL1,
    (4, 8, 0): (1, 5),  # tlbi ipas2e1is, ipas2le1is
    (4, 8, 4): (1, 5),
    (4, 8, 3): (0, 1, 4, 5, 6),  # tlbi alle2, vae2, alle1, vale2, vmalls12e1, inner shareable
    (4, 8, 7): (0, 1, 4, 5, 6),
    (6, 8, 3): (0, 1, 5),  # tlbi alle3, vae3, vale3, inner shareable
    (6, 8, 7): (0, 1, 5),
}

# Without an address: Rt must be 31, else the encoding is another, unallocated one (C5.3, C5.5).
_TLBI_ALL = {0: (0,), 4: (0, 4, 6), 6: (0,)}

# Hints that are no nop where their extension is there (C6.2): pacm (FEAT_PAuth_LR) signs with
# another modifier afterwards, chkfeat (FEAT_CHK) writes x16.
_HINTS_WITH_EFFECT = (39, 40)

_SPSEL, _DAIFSET, _DAIFCLR = (0, 5), (3, 6), (3, 7)


def system(word: int) -> bool:
    """Return whether ``word``, of the class ``System``, is an instruction of Armv8.0-A.

    Registers of MRS and MSR are refused only if a known extension has them. A register that the engine does
    not
    model has no meaning anyway.
    """
    op0, op1, crn = word >> 19 & 0b11, word >> 16 & 0b111, word >> 12 & 0b1111
    crm, op2, target = word >> 8 & 0b1111, word >> 5 & 0b111, word & 31
    if op0 == 0:
        return not word >> 21 & 1 and target == 31 and _without_register(op1, crn, crm, op2)
    if op0 == 1:
        return not word >> 21 & 1 and _operation(op1, crn, crm, op2, target)
    return of_register(word) is None


def _without_register(op1: int, crn: int, crm: int, op2: int) -> bool:
    """Decode hints, barriers and PSTATE (C4.1.93)."""
    if crn == 4:
        return (op1, op2) in (_SPSEL, _DAIFSET, _DAIFCLR)
    if op1 != 3:
        return False
    if crn == 2:
        return crm << 3 | op2 not in _HINTS_WITH_EFFECT
    return crn == 3 and op2 in (0b010, 0b100, 0b101, 0b110)  # clrex, dsb, dmb, isb


def _operation(op1: int, crn: int, crm: int, op2: int, target: int) -> bool:
    """Decode IC, DC, AT and TLBI (C5.3 to C5.5)."""
    if op2 not in _OPERATIONS.get((op1, crn, crm), ()):
        return False
    everything = (crn == 7 and (op1, op2) == (0, 0) and crm in (1, 5)) or (
        crn == 8 and op2 in _TLBI_ALL[op1] and crm in (3, 7)
    )
    return target == 31 or not everything
