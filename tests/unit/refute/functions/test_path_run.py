"""Runs of hand-made functions: calls are answered, system instructions act on registers of our own."""

from __future__ import annotations

from kexec_verify.arm64.lift import Code
from kexec_verify.arm64.state import FLAGS, GENERAL, SYSTEM
from kexec_verify.refute.functions.effects import Answer, Inputs
from kexec_verify.refute.functions.path_run import PathRun

AT = 0xFFFF_8000_0800_0000
DATA = 0xFFFF_0000_0010_0000
BL = 0x9400_0400  # bl AT + offset + 0x1000
MSR_TTBR0_X1, MRS_X2_DAIF = 0xD518_2001, 0xD53B_4222
DAIFSET, ISB, HVC, ERET = 0xD503_4FDF, 0xD503_3FDF, 0xD400_0002, 0xD69F_03E0
BRK, PACIASP, AUTIASP, RET, BLR_X3, B_OUT = (
    0xD421_0000,
    0xD503_233F,
    0xD503_23BF,
    0xD65F_03C0,
    0xD63F_0060,
    0x1400_0400,
)
LDR_X0_X1, STR_X0_X1_8, ADD_X0_1, MSR_SPSR = 0xF940_0020, 0xF900_0420, 0x9100_0400, 0xD518_4000


def run(*words: int, answers=(), memory=None, warnings=(), length=None, **registers: int) -> PathRun:
    data = b"".join(word.to_bytes(4, "little") for word in words)
    code = Code("made", AT, data, calls=True, warnings=frozenset(warnings))
    given = dict.fromkeys((*GENERAL, "sp", *FLAGS, *SYSTEM), 0) | registers
    pages = (DATA,)
    made = PathRun(code, Inputs(AT, given, memory or {}, pages, tuple(answers), length or 100))
    made.run()
    return made


def test_a_call_is_answered_with_registers_and_stores():
    answer = Answer("callee", AT, {"x0": 7, "x30": 1, "ttbr0_el1": 5, "ZR": 1}, {DATA: "2a00000000000000"})
    found = run(BL, LDR_X0_X1, RET, answers=[answer], x0=3, x1=DATA)
    assert [(event.name, event.at, event.registers["x0"]) for event in found.events] == [("call", AT, 3)]
    assert found.events[0].registers["x30"] == AT + 4
    registers = found.registers()
    assert (registers["x0"], registers["ttbr0_el1"], registers["ZR"]) == (42, 5, 1)
    assert tuple(found.left) == ("ret", AT + 8, 1)
    assert found.changed[0] == {"x0": 7, "x30": 1} and found.changed[1] == {"x0": 42}


def test_a_call_without_an_answer_ends_the_run():
    assert tuple(run(BL, RET).left) == ("call", AT, AT + 0x1000)
    found = run(BLR_X3, RET, x3=0x4000_0000)
    assert tuple(found.left) == ("call", AT, 0x4000_0000)
    assert found.registers()["x30"] == AT + 4


def test_a_tail_call_returns_to_the_caller():
    answered = run(B_OUT, answers=[Answer("callee", AT, {"x0": 1, "x30": 2})], x30=0x1234)
    assert tuple(answered.left) == ("ret", AT, 0x1234)
    assert tuple(run(B_OUT).left) == ("br", AT, AT + 0x1000)


def test_system_registers_are_our_own():
    found = run(MSR_TTBR0_X1, ISB, DAIFSET, MRS_X2_DAIF, RET, x1=0x4100_0000, daif=0x40)
    assert [event[:3] for event in found.events] == [
        ("msr ttbr0_el1", AT, 0x4100_0000),
        ("InstructionSynchronizationBarrier", AT + 4, 0),
        ("msr daif", AT + 8, 0x3C0),
    ]
    registers = found.registers()
    assert registers["ttbr0_el1"] == 0x4100_0000 and registers["x2"] == 0x3C0


def test_a_write_of_an_unknown_system_register_is_an_effect():
    assert [event[:2] for event in run(MSR_SPSR, RET).events] == [("msr spsr_el1", AT)]


def test_an_instruction_of_el2_is_undefined():
    found = run(0xD51CC000, RET)  # msr vbar_el2, x0
    assert found.left.kind == "undefined" and found.left.at == AT


def test_a_warn_is_resumed_and_a_bug_ends_the_run():
    found = run(BRK, ADD_X0_1, BRK, warnings=[AT])
    assert [event.name for event in found.events] == ["warn"]
    assert found.left.kind == "brk" and found.left.at == AT + 8 and found.registers()["x0"] == 1


def test_signing_of_return_addresses_does_nothing():
    assert tuple(run(PACIASP, AUTIASP, RET, x30=0x5678).left) == ("ret", AT + 8, 0x5678)


def test_an_hvc_is_answered_or_taken():
    found = run(HVC, ERET, answers=[Answer("CallHyperVisor", AT, {"x0": 9})])
    assert found.left.kind == "eret" and found.registers()["x0"] == 9
    assert run(HVC, ERET).left.kind == "hvc"


def test_accesses_are_seen_and_the_run_stops_after_its_length():
    found = run(LDR_X0_X1, STR_X0_X1_8, ADD_X0_1, RET, memory={DATA: 6}, length=2, x1=DATA)
    assert [tuple(access) for access in found.accesses] == [
        ("load", AT, DATA, 8, 6),
        ("store", AT + 4, DATA + 8, 8, 6),
    ]
    assert found.trace == [AT, AT + 4] and tuple(found.left) == ("stopped", AT + 8, AT + 8)
    assert found.read(DATA + 8, 8) == 6 and found.read(0x1000, 1) is None


def test_an_access_outside_of_its_memory_is_a_fault():
    assert run(LDR_X0_X1, RET, x1=0x1000).left.kind.startswith("fault")
