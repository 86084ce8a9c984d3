"""Code of the bare machine: start-up, exception vectors, and the code at the entry.

Each instruction is its word and its text; no assembler is needed. The code communicates with this process
through the control block, a page of RAM that no table maps: it reads parameters there and writes a report.
"""

from __future__ import annotations

from typing import Final

type Words = tuple[tuple[int, str], ...]

CONTROL: Final = 0x4200_0000
"""Physical address of the control block."""
ENTERED, EXCEPTION_EL1, EXCEPTION_EL2 = 1, 2, 3
"""Values of the report's first word; 0 as long as nothing is reported."""
REPORT: Final = 0x10
"""Where the report's values start in the control block: 64-bit words."""
PARAMETERS: Final = 0x100
"""Where the parameters start: ``Registers.words`` in image.py names them, in order."""
REGISTERS: Final = 0x200
"""Where x0 to x30 start."""
VECTORS_BYTES: Final = 0x800
_VECTOR_BYTES: Final = 0x80  # Arm ARM, D1.3.1

STARTUP: Words = (
    (0xD2A8_4014, "movz x20, #0x4200, lsl #16"),
    (0xA950_0A81, "ldp x1, x2, [x20, #0x100]"),
    (0xA951_1283, "ldp x3, x4, [x20, #0x110]"),
    (0xA8C1_1825, "ldp x5, x6, [x1], #16"),
    (0xA8C1_2027, "ldp x7, x8, [x1], #16"),
    (0xA881_1845, "stp x5, x6, [x2], #16"),
    (0xA881_2047, "stp x7, x8, [x2], #16"),
    (0xF100_8063, "subs x3, x3, #32"),
    (0x54FF_FF61, "b.ne #-20"),
    (0xD51C_1104, "msr hcr_el2, x4"),
    (0xA952_0A81, "ldp x1, x2, [x20, #0x120]"),
    (0xD51C_C001, "msr vbar_el2, x1"),
    (0xD518_C002, "msr vbar_el1, x2"),
    (0xA953_0A81, "ldp x1, x2, [x20, #0x130]"),
    (0xD518_A201, "msr mair_el1, x1"),
    (0xD518_2042, "msr tcr_el1, x2"),
    (0xA954_0A81, "ldp x1, x2, [x20, #0x140]"),
    (0xD518_2001, "msr ttbr0_el1, x1"),
    (0xD518_2022, "msr ttbr1_el1, x2"),
    (0xA955_0A81, "ldp x1, x2, [x20, #0x150]"),
    (0xD518_1001, "msr sctlr_el1, x1"),
    (0xD51C_4102, "msr sp_el1, x2"),
    (0xA956_0A81, "ldp x1, x2, [x20, #0x160]"),
    (0xD51C_4021, "msr elr_el2, x1"),
    (0xD51C_4002, "msr spsr_el2, x2"),
    (0xA957_0A81, "ldp x1, x2, [x20, #0x170]"),
    (0xD51C_1001, "msr sctlr_el2, x1"),
    (0xD51C_1142, "msr cptr_el2, x2"),
    (0xD50C_879F, "tlbi alle1"),
    (0xD508_751F, "ic iallu"),
    (0xD503_3F9F, "dsb sy"),
    (0xD503_3FDF, "isb"),
    (0x9108_029E, "add x30, x20, #0x200"),
    (0xA940_07C0, "ldp x0, x1, [x30, #0x0]"),
    (0xA941_0FC2, "ldp x2, x3, [x30, #0x10]"),
    (0xA942_17C4, "ldp x4, x5, [x30, #0x20]"),
    (0xA943_1FC6, "ldp x6, x7, [x30, #0x30]"),
    (0xA944_27C8, "ldp x8, x9, [x30, #0x40]"),
    (0xA945_2FCA, "ldp x10, x11, [x30, #0x50]"),
    (0xA946_37CC, "ldp x12, x13, [x30, #0x60]"),
    (0xA947_3FCE, "ldp x14, x15, [x30, #0x70]"),
    (0xA948_47D0, "ldp x16, x17, [x30, #0x80]"),
    (0xA949_4FD2, "ldp x18, x19, [x30, #0x90]"),
    (0xA94A_57D4, "ldp x20, x21, [x30, #0xa0]"),
    (0xA94B_5FD6, "ldp x22, x23, [x30, #0xb0]"),
    (0xA94C_67D8, "ldp x24, x25, [x30, #0xc0]"),
    (0xA94D_6FDA, "ldp x26, x27, [x30, #0xd0]"),
    (0xA94E_77DC, "ldp x28, x29, [x30, #0xe0]"),
    (0xF940_7BDE, "ldr x30, [x30, #0xf0]"),
    (0xD69F_03E0, "eret"),
)
"""At EL2: copies the pages into place, sets the system registers, and enters EL1."""

START: Words = (
    (0xD2A8_4009, "movz x9, #0x4200, lsl #16"),
    (0xA901_0520, "stp x0, x1, [x9, #0x10]"),
    (0xA902_0D22, "stp x2, x3, [x9, #0x20]"),
    (0xD53B_422A, "mrs x10, daif"),
    (0xD538_424B, "mrs x11, currentel"),
    (0xA903_2D2A, "stp x10, x11, [x9, #0x30]"),
    (0xD538_100C, "mrs x12, sctlr_el1"),
    (0xD280_000D, "mov x13, #0"),
    (0x3618_004B, "tbz x11, #3, #8"),
    (0xD53C_100D, "mrs x13, sctlr_el2"),
    (0xA904_352C, "stp x12, x13, [x9, #0x40]"),
    (0xD280_002E, "mov x14, #1"),
    (0xF900_012E, "str x14, [x9]"),
    (0xD503_207F, "wfi"),
    (0x17FF_FFFF, "b #-4"),
)
"""At the entry: writes what a kernel finds there to the report, and waits."""

REPORT_EL1: Words = (
    (0xD538_520A, "mrs x10, esr_el1"),
    (0xD538_402B, "mrs x11, elr_el1"),
    (0xD538_600C, "mrs x12, far_el1"),
    (0xD538_400D, "mrs x13, spsr_el1"),
    (0xD2A6_0A0E, "movz x14, #0x3050, lsl #16"),
    (0xF281_000E, "movk x14, #0x800"),
    (0xD518_100E, "msr sctlr_el1, x14"),
    (0xD503_3FDF, "isb"),
    (0xD2A8_400F, "movz x15, #0x4200, lsl #16"),
    (0xA901_29E9, "stp x9, x10, [x15, #0x10]"),
    (0xA902_31EB, "stp x11, x12, [x15, #0x20]"),
    (0xF900_19ED, "str x13, [x15, #0x30]"),
    (0xD280_004E, "mov x14, #2"),
    (0xF900_01EE, "str x14, [x15]"),
    (0xD503_207F, "wfi"),
    (0x17FF_FFFF, "b #-4"),
)
"""Of an exception to EL1, number in x9: turns the MMU off, writes the report, and waits."""

REPORT_EL2: Words = (
    (0xD53C_520A, "mrs x10, esr_el2"),
    (0xD53C_402B, "mrs x11, elr_el2"),
    (0xD53C_600C, "mrs x12, far_el2"),
    (0xD53C_400D, "mrs x13, spsr_el2"),
    (0xD2A8_400F, "movz x15, #0x4200, lsl #16"),
    (0xA901_29E9, "stp x9, x10, [x15, #0x10]"),
    (0xA902_31EB, "stp x11, x12, [x15, #0x20]"),
    (0xF900_19ED, "str x13, [x15, #0x30]"),
    (0xD280_006E, "mov x14, #3"),
    (0xF900_01EE, "str x14, [x15]"),
    (0xD503_207F, "wfi"),
    (0x17FF_FFFF, "b #-4"),
)
"""Of an exception to EL2, number in x9: writes the report, and waits."""

CALL_EL2: Words = (
    (0xD400_0002, "hvc #0"),
    (0xD400_0022, "hvc #1"),
    (0x1400_0000, "b #0"),
)
"""At EL1: one HVC, and a second, which tells the vectors in force."""

_MOVZ_X9: Final = 0xD280_0009
_B: Final = 0x1400_0000


def code(words: Words) -> bytes:
    """Return the bytes of ``words``."""
    return b"".join(word.to_bytes(4, "little") for word, _ in words)


def vectors(report: Words) -> bytes:
    """Return a vector table whose entries put their number into x9 and continue with ``report``."""
    body = code(report)
    if len(body) > _VECTOR_BYTES - 8:
        raise ValueError(f"expected at most {_VECTOR_BYTES - 8} bytes, found {len(body)}")
    table = bytearray(VECTORS_BYTES)
    for number in range(VECTORS_BYTES // _VECTOR_BYTES):
        at = number * _VECTOR_BYTES
        table[at : at + 8] = code(vector(number))
    table[8 : 8 + len(body)] = body
    return bytes(table)


def vector(number: int) -> Words:
    """Return the first two instructions of entry ``number``; the first entry has the rest."""
    back = 4 - number * _VECTOR_BYTES
    branch = _B | (back >> 2 & (1 << 26) - 1)
    return ((_MOVZ_X9 | number << 5, f"movz x9, #{number}"), (branch, f"b #{back}"))
