"""Name the architecture extension that an encoding beyond Armv8.0-A belongs to.

Used only in messages: ``verify/arm64/base.py`` decides whether an encoding is refused, so an extension that
is
missing here is refused as well. The names and encodings are those of the Arm Architecture Reference Manual
(DDI 0487, A2 and C4.1).
"""

from __future__ import annotations

# Each: a mask, the value under it, the extension. The first that fits counts.
_BY_ENCODING: tuple[tuple[int, int, str], ...] = (
    # Barriers, hints and waits.
    (0xFFFF_F3FF, 0xD503_323F, "FEAT_XS"),  # dsb nXS
    (0xFFFF_F0FF, 0xD503_30FF, "FEAT_SB"),
    (0xFFFF_FFFF, 0xD503_24FF, "FEAT_PAuth_LR"),  # pacm
    (0xFFFF_FFFF, 0xD503_251F, "FEAT_CHK"),  # chkfeat
    (0xFFFF_FFFF, 0xD503_307F, "FEAT_TME"),  # tcommit
    (0xFFFF_FEE0, 0xD523_3060, "FEAT_TME"),  # tstart, ttest
    (0xFFE0_001F, 0xD460_0000, "FEAT_TME"),  # tcancel
    (0xFFFF_FFC0, 0xD503_1000, "FEAT_WFxT"),
    # PSTATE.
    (0xFFFF_F0FF, 0xD500_401F, "FEAT_FlagM"),  # cfinv
    (0xFFFF_F0FF, 0xD500_403F, "FEAT_FlagM2"),  # xaflag
    (0xFFFF_F0FF, 0xD500_405F, "FEAT_FlagM2"),  # axflag
    (0xFFFF_F0FF, 0xD500_407F, "FEAT_UAO"),
    (0xFFFF_F0FF, 0xD500_409F, "FEAT_PAN"),
    (0xFFFF_FEFF, 0xD501_401F, "FEAT_NMI"),  # allint
    (0xFFFF_FEFF, 0xD501_421F, "FEAT_EBEP"),  # pm
    (0xFFFF_F0FF, 0xD503_403F, "FEAT_SSBS"),
    (0xFFFF_F0FF, 0xD503_405F, "FEAT_DIT"),
    (0xFFFF_F0FF, 0xD503_407F, "FEAT_SME"),  # smstart, smstop
    (0xFFFF_F0FF, 0xD503_409F, "FEAT_MTE"),  # tco
    # SYS, SYSL: maintenance and address translation.
    (0xFFF8_F000, 0xD508_9000, "FEAT_XS"),  # tlbi nXS
    (0xFFF8_FF00, 0xD508_8100, "FEAT_TLBIOS"),
    (0xFFFF_FF60, 0xD50C_8400, "FEAT_TLBIOS"),  # ipas2e1os, ipas2le1os
    (0xFFFF_FB00, 0xD50C_8000, "FEAT_TLBIRANGE"),  # ripas2e1, ...
    (0xFFF8_FF00, 0xD508_8200, "FEAT_TLBIRANGE"),
    (0xFFF8_FF00, 0xD508_8500, "FEAT_TLBIRANGE"),
    (0xFFF8_FF00, 0xD508_8600, "FEAT_TLBIRANGE"),
    (0xFFFF_FFE0, 0xD50B_7C20, "FEAT_DPB"),  # dc cvap
    (0xFFFF_FFE0, 0xD50B_7D20, "FEAT_DPB2"),  # dc cvadp
    (0xFFFF_FF00, 0xD50B_7400, "FEAT_MTE"),  # dc gva, gzva
    (0xFFFF_FF00, 0xD50B_7300, "FEAT_SPECRES"),  # cfp, dvp, cpp
    (0xFFFF_F8E0, 0xD50B_7860, "FEAT_MTE"),  # dc cgvac, cgvap, cgvadp, cigvac
    (0xFFFF_F8E0, 0xD50B_78A0, "FEAT_MTE"),  # dc cgdvac, ...
    (0xFFFF_FFE0, 0xD508_7660, "FEAT_MTE2"),  # dc igvac
    (0xFFFF_FF80, 0xD508_7680, "FEAT_MTE2"),  # dc igsw, igdvac, igdsw
    (0xFFFF_FB80, 0xD508_7A80, "FEAT_MTE2"),  # dc cgsw, cgdsw, cigsw, cigdsw
    (0xFFFF_FFC0, 0xD508_7900, "FEAT_PAN2"),  # at s1e1rp, s1e1wp
    (0xFFFF_FF00, 0xD509_7200, "FEAT_BRBE"),
    (0xFFFE_F000, 0xD50E_7000, "FEAT_RME"),  # dc cipapa
    # Branches.
    (0xFF00_0010, 0x5400_0010, "FEAT_HBC"),  # bc.cond
    (0xFF00_0000, 0x5500_0000, "FEAT_PAuth_LR"),  # retaasppc
    (0x7E00_0000, 0x7400_0000, "FEAT_CMPBR"),
    (0xFE00_0000, 0xD600_0000, "FEAT_PAuth"),  # braa, blraa, retaa, eretaa
    # Data processing.
    (0xBFC0_0000, 0x9180_0000, "FEAT_MTE"),  # addg, subg
    (0x7FC0_0000, 0x11C0_0000, "FEAT_CSSC"),  # smax, umax, smin, umin (immediate)
    (0xFF80_0000, 0xF380_0000, "FEAT_PAuth_LR"),  # autiasppc
    (0xDFE0_FC00, 0x9AC0_0000, "FEAT_MTE"),  # subp, subps
    (0xFFE0_F800, 0x9AC0_1000, "FEAT_MTE"),  # irg, gmi
    (0xFFE0_FC00, 0x9AC0_3000, "FEAT_PAuth"),  # pacga
    (0x7FE0_E000, 0x1AC0_4000, "FEAT_CRC32"),
    (0x7FE0_F000, 0x1AC0_6000, "FEAT_CSSC"),  # smax, ...
    (0x7FFF_F000, 0x5AC0_1000, "FEAT_CSSC"),  # ctz, cnt, abs
    (0x7FFF_F000, 0x5AC0_2000, "FEAT_CSSC"),
    (0xFFFF_0000, 0xDAC1_0000, "FEAT_PAuth"),
    (0xFFE0_7C10, 0xBA00_0400, "FEAT_FlagM"),  # rmif
    (0xFFFF_BC1F, 0x3A00_080D, "FEAT_FlagM"),  # setf8, setf16
    (0xBFE0_E000, 0x9A00_2000, "FEAT_CPA"),  # addpt, subpt
    (0xFF60_0000, 0x9B60_0000, "FEAT_CPA"),  # maddpt, msubpt
    # Loads and stores.
    (0xBFA0_7C00, 0x0820_7C00, "FEAT_LSE"),  # casp
    (0x3FA0_7C00, 0x08A0_7C00, "FEAT_LSE"),  # cas
    (0x3FBF_FC00, 0x089F_7C00, "FEAT_LOR"),  # stllr, ldlar
    (0xBFA0_7C00, 0x0980_7C00, "FEAT_LSUI"),  # casp with the permissions of EL0
    (0x3F00_0000, 0x0900_0000, "FEAT_LSUI or FEAT_THE"),
    (0xFF20_0000, 0xD920_0000, "FEAT_MTE"),  # stg, ldg, ...
    (0xFE40_0000, 0x6800_0000, "FEAT_MTE"),  # stgp
    (0x3F20_0C00, 0x1900_0000, "FEAT_LRCPC2"),  # ldapur, stlur
    (0x3F20_0C00, 0x1900_0400, "FEAT_MOPS"),
    (0x3F20_0C00, 0x1900_0800, "FEAT_LRCPC3"),
    (0x3F20_0C00, 0x1920_0000, "FEAT_LSE128 or FEAT_THE"),
    (0xFF20_0400, 0xF820_0400, "FEAT_PAuth"),  # ldraa, ldrab
    (0x3FFF_FC00, 0x38BF_C000, "FEAT_LRCPC"),  # ldapr
    (0xFFE0_9C00, 0xF820_9000, "FEAT_LS64"),  # ld64b, st64b, st64bv
    (0x3F20_0C00, 0x3820_0000, "FEAT_LSE"),  # ldadd, ..., swp
    # Whole parts of C4.1.
    (0x9E00_0000, 0x8000_0000, "FEAT_SME"),
    (0x1E00_0000, 0x0400_0000, "FEAT_SVE"),
)

_ONLY_WITH_HOST_EXTENSIONS = 0b101  # op1 of *_EL12 and *_EL02

# (op0, op1, CRn, CRm, op2) of a register: D24.2.
_BY_REGISTER: dict[tuple[int, int, int, int, int], str] = {
    (3, 0, 4, 2, 3): "FEAT_PAN",
    (3, 0, 4, 2, 4): "FEAT_UAO",
    (3, 0, 4, 3, 0): "FEAT_NMI",  # allint
    (3, 3, 4, 2, 2): "FEAT_SME",  # svcr
    (3, 3, 4, 2, 5): "FEAT_DIT",
    (3, 3, 4, 2, 6): "FEAT_SSBS",
    (3, 3, 4, 2, 7): "FEAT_MTE",  # tco
    (3, 1, 0, 0, 4): "FEAT_MTE2",  # gmid_el1
    (3, 3, 2, 4, 0): "FEAT_RNG",  # rndr
    (3, 3, 2, 4, 1): "FEAT_RNG",  # rndrrs
    (3, 4, 2, 0, 1): "FEAT_VHE",  # ttbr1_el2
    (3, 4, 13, 0, 1): "FEAT_VHE",  # contextidr_el2
}


def extension(word: int) -> str | None:
    """Return the extension that ``word`` needs, as the Arm ARM names it; None if it is not known."""
    if word >> 20 & 0xFFD == 0xD51:
        return of_register(word)
    for mask, value, name in _BY_ENCODING:
        if word & mask == value:
            return name
    return None


def of_register(word: int) -> str | None:
    """Return the extension that has the register of the MRS or MSR ``word``; None if it is not known."""
    op1 = word >> 16 & 0b111
    if op1 == _ONLY_WITH_HOST_EXTENSIONS:
        return "FEAT_VHE"
    return _BY_REGISTER.get((word >> 19 & 0b11, op1, word >> 12 & 15, word >> 8 & 15, word >> 5 & 0b111))
