"""Legality by exception level and by permissions, read from the bits."""

from __future__ import annotations

import pytest

from verify.arm64.legality import lowest_el, unprivileged

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
