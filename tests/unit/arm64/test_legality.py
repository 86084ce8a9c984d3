"""Legality: by what Armv8.0-A has, by exception level and by permissions, read from the bits."""

from __future__ import annotations

import pytest
from kexec_verify.arm64.legality import illegal, lowest_el, unprivileged
from kexec_verify.arm64.lift import decode
from kexec_verify.errors import UnsupportedError

EXTENSIONS = {
    "dsb oshnxs": (0xD503323F, "FEAT_XS"),
    "dsb synxs": (0xD5033E3F, "FEAT_XS"),
    "sb": (0xD50330FF, "FEAT_SB"),
    "chkfeat x16": (0xD503251F, "FEAT_CHK"),
    "pacm": (0xD50324FF, "FEAT_PAuth_LR"),
    "tcommit": (0xD503307F, "FEAT_TME"),
    "tstart x0": (0xD5233060, "FEAT_TME"),
    "tcancel #0": (0xD4600000, "FEAT_TME"),
    "wfet x0": (0xD5031000, "FEAT_WFxT"),
    "wfit x0": (0xD5031020, "FEAT_WFxT"),
    "cfinv": (0xD500401F, "FEAT_FlagM"),
    "axflag": (0xD500405F, "FEAT_FlagM2"),
    "msr uao, #1": (0xD500417F, "FEAT_UAO"),
    "msr pan, #1": (0xD500419F, "FEAT_PAN"),
    "msr allint, #1": (0xD501411F, "FEAT_NMI"),
    "msr ssbs, #1": (0xD503413F, "FEAT_SSBS"),
    "msr dit, #1": (0xD503415F, "FEAT_DIT"),
    "smstart": (0xD503477F, "FEAT_SME"),
    "msr tco, #1": (0xD503419F, "FEAT_MTE"),
    "tlbi vmalle1nxs": (0xD508971F, "FEAT_XS"),
    "tlbi vmalle1os": (0xD508811F, "FEAT_TLBIOS"),
    "tlbi ipas2e1os, x0": (0xD50C8400, "FEAT_TLBIOS"),
    "tlbi rvae1is, x0": (0xD5088220, "FEAT_TLBIRANGE"),
    "tlbi rvae1, x0": (0xD5088620, "FEAT_TLBIRANGE"),
    "tlbi ripas2e1is, x0": (0xD50C8040, "FEAT_TLBIRANGE"),
    "dc cvap, x0": (0xD50B7C20, "FEAT_DPB"),
    "dc cvadp, x0": (0xD50B7D20, "FEAT_DPB2"),
    "dc gva, x0": (0xD50B7460, "FEAT_MTE"),
    "dc igvac, x0": (0xD5087660, "FEAT_MTE2"),
    "dc cigdsw, x0": (0xD5087EC0, "FEAT_MTE2"),
    "dc cgvac, x0": (0xD50B7A60, "FEAT_MTE"),
    "at s1e1rp, x0": (0xD5087900, "FEAT_PAN2"),
    "cfp rctx, x0": (0xD50B7380, "FEAT_SPECRES"),
    "dc cigdpapa, x0": (0xD50E7EA0, "FEAT_RME"),
    "msr sctlr_el12, x0": (0xD51D1000, "FEAT_VHE"),
    "msr ssbs, x0": (0xD51B42C0, "FEAT_SSBS"),
    "mrs x0, rndr": (0xD53B2400, "FEAT_RNG"),
    "mrs x0, pan": (0xD5384260, "FEAT_PAN"),
    "bc.eq": (0x54000010, "FEAT_HBC"),
    "cbgt w0, w1": (0x74010000, "FEAT_CMPBR"),
    "retaa": (0xD65F0BFF, "FEAT_PAuth"),
    "blraaz x0": (0xD63F081F, "FEAT_PAuth"),
    "eretaa": (0xD69F0BFF, "FEAT_PAuth"),
    "addg x0, x1, #0, #0": (0x91800020, "FEAT_MTE"),
    "smax x0, x1, #0": (0x91C00020, "FEAT_CSSC"),
    "crc32cx w0, w1, x2": (0x9AC25C20, "FEAT_CRC32"),
    "smax x0, x1, x2": (0x9AC26020, "FEAT_CSSC"),
    "cnt x0, x1": (0xDAC01C20, "FEAT_CSSC"),
    "abs x0, x1": (0xDAC02020, "FEAT_CSSC"),
    "pacia x0, x1": (0xDAC10020, "FEAT_PAuth"),
    "pacga x0, x1, x2": (0x9AC23020, "FEAT_PAuth"),
    "irg x0, x1": (0x9ADF1020, "FEAT_MTE"),
    "rmif x0, #0, #0": (0xBA000400, "FEAT_FlagM"),
    "setf8 w0": (0x3A00080D, "FEAT_FlagM"),
    "casal x0, x1, [x2]": (0xC8E0FC41, "FEAT_LSE"),
    "casp x0, x1, x2, x3, [x4]": (0x48207C82, "FEAT_LSE"),
    "ldadd x0, x1, [x2]": (0xF8200041, "FEAT_LSE"),
    "swpal w0, w1, [x2]": (0xB8E08041, "FEAT_LSE"),
    "ldapr x0, [x1]": (0xF8BFC020, "FEAT_LRCPC"),
    "ldaprb w0, [x1]": (0x38BFC020, "FEAT_LRCPC"),
    "ldapur x0, [x1]": (0xD9400020, "FEAT_LRCPC2"),
    "stlur x0, [x1]": (0xD9000020, "FEAT_LRCPC2"),
    "ldlar x0, [x1]": (0xC8DF7C20, "FEAT_LOR"),
    "ld64b x0, [x1]": (0xF83FD020, "FEAT_LS64"),
    "ldraa x0, [x1]": (0xF8200420, "FEAT_PAuth"),
    "stg x0, [x1]": (0xD9200820, "FEAT_MTE"),
    "stgp x0, x1, [x2]": (0x69000440, "FEAT_MTE"),
    "cpyfp [x0]!, [x1]!, x2!": (0x19010440, "FEAT_MOPS"),
    "setp [x0]!, x1!, x2": (0x19C20420, "FEAT_MOPS"),
    "zero {za}": (0xC0080000, "FEAT_SME"),
    "cntd x0": (0x04E0E3E0, "FEAT_SVE"),
}

HINTS = {
    "nop": 0xD503201F,
    "bti c": 0xD503245F,
    "paciasp": 0xD503233F,
    "autiasp": 0xD50323BF,
    "csdb": 0xD503229F,
    "esb": 0xD503221F,
    "psb csync": 0xD503223F,
    "hint #127": 0xD5032FFF,
}

UNALLOCATED = {
    "udf #0": 0x00000000,
    "a reserved bitmask": 0x3212FC03,
    "movn with a second half of a W register": 0x12C00000 | 1 << 22,
    "a shift of a W register by 32": 0x0B008020,
    "an extension shifted by 5": 0x8B201420,
    "tlbi vmalle1 with a register": 0xD5088700,
    "ic iallu with a register": 0xD5087500,
    "stlr with other fields than ones": 0xC8800020,
    "a barrier with a register": 0xD5033F80,
}

UNPREDICTABLE = {
    "ldp x0, x0, [x1]": 0xA9400020,
    "ldp x0, x1, [x0], #0": 0xA8C00400,
    "stp x0, x1, [x1, #0]!": 0xA9800420,
    "ldpsw x0, x0, [x1]": 0x69400020,
    "ldr x0, [x0], #8": 0xF8408400,
    "str x0, [x0, #8]!": 0xF8008C00,
}

LEVELS = {
    "msr vbar_el2, x0": (0xD51CC000, 2),
    "mrs x0, vbar_el2": (0xD53CC000, 2),
    "msr hcr_el2, x0": (0xD51C1100, 2),
    "msr sctlr_el12, x0": (0xD51D1000, 2),
    "msr cntv_ctl_el02, x0": (0xD51DE320, 2),
    "msr sp_el1, x0": (0xD51C4100, 2),
    "msr sctlr_el3, x0": (0xD51E1000, 3),
    "msr cntps_ctl_el1, x0": (0xD51FE220, 3),
    "msr sctlr_el1, x0": (0xD5181000, 1),
    "mrs x0, ccsidr_el1": (0xD5390000, 1),
    "msr csselr_el1, x0": (0xD51A0000, 1),
    "mrs x0, mdscr_el1": (0xD5300240, 1),
    "mrs x0, dbgvcr32_el2": (0xD5340700, 2),
    "mrs x0, ctr_el0": (0xD53B0020, 0),
    "msr daifset, #15": (0xD5034FDF, 0),
    "msr spsel, #1": (0xD50041BF, 1),
    "msr pan, #1": (0xD500419F, 1),
    "cfinv": (0xD500401F, 0),
    "dc civac, x0": (0xD50B7E20, 0),
    "dc ivac, x0": (0xD5087620, 1),
    "ic iallu": (0xD508751F, 1),
    "tlbi vmalle1": (0xD508871F, 1),
    "tlbi alle1": (0xD50C879F, 2),
    "tlbi vmalls12e1": (0xD50C87DF, 2),
    "tlbi alle3": (0xD50E871F, 3),
    "at s1e1r, x0": (0xD5087800, 1),
    "at s12e1r, x0": (0xD50C7880, 2),
    "at s1e2r, x0": (0xD50C7800, 2),
    "isb": (0xD5033FDF, 0),
    "nop": (0xD503201F, 0),
    "svc #0": (0xD4000001, 0),
    "hvc #0": (0xD4000002, 1),
    "smc #0": (0xD4000003, 1),
    "brk #0": (0xD4200000, 0),
    "dcps1": (0xD4A00001, 3),
    "eret": (0xD69F03E0, 1),
    "eretaa": (0xD69F0BFF, 1),
    "drps": (0xD6BF03E0, 3),
    "ret": (0xD65F03C0, 0),
    "br x0": (0xD61F0000, 0),
    "add x0, x1, x2": (0x8B020020, 0),
    "ldr x0, [x1]": (0xF9400020, 0),
}

UNPRIVILEGED = {
    "ldtr x16, [x0]": 0xF8400810,
    "sttr x0, [x1, #-8]": 0xF81F8820,
    "ldtrb w0, [x1]": 0x38400820,
    "sttrb w0, [x1]": 0x38000820,
    "ldtrh w0, [x1]": 0x78400820,
    "sttrh w0, [x1]": 0x78000820,
    "ldtrsb x0, [x1]": 0x38800820,
    "ldtrsh w0, [x1]": 0x78C00820,
    "ldtrsw x0, [x1]": 0xB8800820,
    "ldtr w0, [x1]": 0xB8400820,
}

PRIVILEGED = {
    "ldur x16, [x0]": 0xF8400010,
    "ldr x16, [x0], #0": 0xF8400410,
    "ldr x16, [x0, #0]!": 0xF8400C10,
    "ldr x16, [x0]": 0xF9400010,
    "ldr x16, [x0, x1]": 0xF8616810,
    "ldp x0, x1, [x2]": 0xA9400440,
    "ldur d16, [x0]": 0xFC400010,
    "nop": 0xD503201F,
}


@pytest.mark.parametrize("text", LEVELS)
def test_the_lowest_exception_level_is_read_from_the_bits(text):
    word, level = LEVELS[text]
    assert lowest_el(word) == level


@pytest.mark.parametrize("text", UNPRIVILEGED)
def test_accesses_with_the_permissions_of_el0(text):
    assert unprivileged(UNPRIVILEGED[text])


@pytest.mark.parametrize("text", PRIVILEGED)
def test_other_accesses(text):
    assert not unprivileged(PRIVILEGED[text])


@pytest.mark.parametrize("text", EXTENSIONS)
def test_what_needs_an_extension_is_refused_by_its_name(text):
    word, name = EXTENSIONS[text]
    assert illegal(word) == f"it needs {name}, which no capability test here guards"
    with pytest.raises(UnsupportedError):
        decode(word, 0x1000)


@pytest.mark.parametrize("text", HINTS)
def test_hints_are_legal_on_every_cpu(text):
    assert illegal(HINTS[text]) is None


@pytest.mark.parametrize("text", UNALLOCATED)
def test_what_the_base_architecture_lacks_is_refused(text):
    assert "no such instruction" in illegal(UNALLOCATED[text])


@pytest.mark.parametrize("text", UNPREDICTABLE)
def test_what_cpus_may_differ_on_is_refused(text):
    assert "CONSTRAINED UNPREDICTABLE" in illegal(UNPREDICTABLE[text])
    with pytest.raises(UnsupportedError, match="UNPREDICTABLE"):
        decode(UNPREDICTABLE[text], 0x1000)


@pytest.mark.parametrize("word", [0xD4A00001, 0xD4A00002, 0xD4A00003, 0xD6BF03E0])
def test_instructions_of_debug_state_are_refused(word):
    assert "Debug state" in illegal(word)


def test_floating_point_and_simd_are_refused():
    for word in (0x1E602820, 0x4E208400, 0xFD400020, 0x3DC00020, 0x9E660000, 0x0C407020):
        assert "floating point" in illegal(word)


@pytest.mark.parametrize(
    "word", [0xF8400810, 0xD51CC000, 0xD5087620], ids=["ldtr", "msr vbar_el2", "dc ivac"]
)
def test_what_is_legal_somewhere_is_left_to_an_obligation(word):
    assert illegal(word) is None
    assert decode(word, 0x1000).operations


def test_what_sleigh_takes_for_a_plain_instruction_is_refused_by_legality_alone(monkeypatch):
    """Without the guard `dsb synxs` is a dsb; with it the decoder refuses."""
    with pytest.raises(UnsupportedError, match="FEAT_XS"):
        decode(0xD5033E3F, 0x1000)
    decode.cache_clear()
    monkeypatch.setattr("kexec_verify.arm64.lift.illegal", lambda word: None)
    assert decode(0xD5033E3F, 0x1000).text.startswith("dsb")
    decode.cache_clear()
