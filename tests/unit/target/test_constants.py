"""Constants in registers along straight code."""

from __future__ import annotations

import struct
from array import array

import pytest
from kexec_verify.target import Kernel, Segment, SymbolTable
from kexec_verify.target.constants import walk
from kexec_verify.target.symbols import ListedNames

BASE = 0xFFFF_8000_0800_0000
WORD = BASE + 0x100
MOV_X0_5, MOV_X19_5, MOVN_X0_0, NOP, RET = 0xD28000A0, 0xD28000B3, 0x92800000, 0xD503201F, 0xD65F03C0
ADR_X0_WORD, LDR_X0_X0 = 0x10000800, 0xF9400000  # adr x0, .+0x100


def after(*code: int, constant_words: frozenset[str] = frozenset()) -> dict[str, int]:
    """The constants before the last instruction."""
    data = bytearray(0x200)
    struct.pack_into(f"<{len(code)}I", data, 0, *code)
    struct.pack_into("<Q", data, 0x100, 0x1234)
    kernel = Kernel(
        "small", "small", "elf", "0" * 64, None, None, None, (Segment(BASE, bytes(data)),),
        SymbolTable(ListedNames(["word"]), array("Q", [WORD])),
    )  # fmt: skip
    found: dict[str, int] = {}
    for _, known in walk(kernel, BASE, bytes(data[: 4 * len(code)]), constant_words):
        found = dict(known)
    return found


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ([MOV_X0_5], 5),
        ([MOVN_X0_0], (1 << 64) - 1),
        ([MOV_X0_5, 0x91001000], 9),  # add x0, x0, #4
        ([MOV_X0_5, 0x91401000], 0x4005),  # add x0, x0, #4, lsl #12
        ([MOV_X0_5, 0xD1001000], 1),  # sub x0, x0, #4
        ([MOV_X0_5, 0xCB0003E0], None),  # neg x0, x0
        ([0x90000000], BASE),  # adrp x0, .
        ([ADR_X0_WORD], WORD),
        ([MOV_X19_5, 0xAA1303E0], 5),  # mov x0, x19
        ([MOV_X0_5, 0xF2A00020], 0x10005),  # movk x0, #1, lsl #16
        ([MOVN_X0_0, 0xF2C00020], 0xFFFF_0001_FFFF_FFFF),  # movk x0, #1, lsl #32
        ([0xF2A00020], None),  # movk of what is not known
        ([MOV_X0_5, 0x2A0003E0], None),  # mov w0, w0
        ([MOV_X0_5, 0x8B206000], None),  # add x0, x0, x0, uxtx
        ([MOV_X0_5, 0x52800020], None),  # mov w0, #1
        ([0x910003E0], None),  # mov x0, sp
        ([MOV_X0_5, 0xF8408400], None),  # ldr x0, [x0], #8
        ([MOV_X0_5, 0xA9400020], None),  # ldp x0, x0, [x1]
    ],
)
def test_what_is_known_of_x0(code, expected):
    assert after(*code, NOP).get("x0") == expected


@pytest.mark.parametrize("call", [0x94000010, 0xD63F0060, 0xD4000002], ids=["bl", "blr", "hvc"])
def test_a_call_keeps_what_a_callee_keeps(call):
    found = after(MOV_X0_5, MOV_X19_5, call, NOP)
    assert found == {"x19": 5}


def test_a_branch_target_knows_nothing():
    assert after(MOV_X0_5, 0xB4000041, NOP, NOP) == {}  # cbz x1, the last one
    assert after(MOV_X0_5, 0xB4000061, NOP, NOP) == {"x0": 5}  # past it


@pytest.mark.parametrize("end", [0x14000010, 0xD61F0060, RET, 0xD69F03E0], ids=["b", "br", "ret", "eret"])
def test_what_stands_behind_the_end_of_a_path_knows_nothing(end):
    assert after(MOV_X0_5, end, NOP) == {}


@pytest.mark.parametrize("branch", [0x54000200, 0xB4000201, 0x36000201], ids=["b.eq", "cbz", "tbz"])
def test_a_branch_that_falls_through_keeps_what_is_known(branch):
    assert after(MOV_X0_5, branch, NOP) == {"x0": 5}


def test_only_words_that_never_change_are_loaded():
    assert after(ADR_X0_WORD, LDR_X0_X0, NOP).get("x0") is None
    assert after(ADR_X0_WORD, LDR_X0_X0, NOP, constant_words=frozenset({"word"})) == {"x0": 0x1234}
    assert after(ADR_X0_WORD, 0xB9400000, NOP, constant_words=frozenset({"word"})) == {}  # ldr w0


def test_data_is_no_instruction_and_nothing_is_known_behind_it():
    assert after(MOV_X0_5, 0xFFFFFFFF, NOP) == {}
