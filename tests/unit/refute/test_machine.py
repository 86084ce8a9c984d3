"""The concrete CPU on a few instructions."""

from __future__ import annotations

import struct

import pytest
from kexec_verify.arm64.lift import Code
from kexec_verify.errors import UnsupportedError
from kexec_verify.refute.effects import Access, Event, Mark
from kexec_verify.refute.lists import build, systematic
from kexec_verify.refute.machine import Machine
from kexec_verify.refute.path import record
from kexec_verify.refute.scenario import Scenario

AT = 0xFFFF_8000_0800_0100
BR_X1 = 0xD61F0020
NOP = 0xD503201F


def code(*words: int) -> Code:
    return Code("routine", AT, struct.pack(f"<{len(words)}I", *words))


@pytest.fixture(scope="module")
def scenario(routine) -> Scenario:
    """Arguments in registers: x0 head, x1 start, x2 dtb."""
    _, variant = routine("regs-no-test-4k-gcc")
    return build(next(p for p in systematic(512, False, False) if p.name == "one page"), variant)


def run(scenario: Scenario, *words: int, watch: frozenset[int] = frozenset(), limit: int = 100):
    return Machine(code(*words), watch).run(scenario, limit)


def test_branch_out_ends_the_run_with_its_target(scenario):
    result = run(scenario, NOP, BR_X1)
    assert (result.end.kind, result.end.at, result.end.target) == ("br", AT + 4, scenario.start)
    assert result.registers[:3] == (scenario.head, scenario.start, scenario.dtb_mem)
    assert result.registers[13] != result.registers[14]  # nothing is 0 by chance


@pytest.mark.parametrize("garbage", ["marked", "zero", "addresses"])
def test_registers_that_the_caller_leaves_hold_anything(scenario, garbage):
    named = {name: getattr(scenario, name) for name in scenario.__struct_fields__}
    registers = run(Scenario(**named | {"garbage": garbage}), BR_X1).registers
    assert registers[:3] == (scenario.head, scenario.start, scenario.dtb_mem)
    assert set(registers[3:]) == (
        {0} if garbage == "zero" else set(map(scenario_of(scenario, garbage), range(3, 31)))
    )


def scenario_of(scenario: Scenario, garbage: str):
    named = {name: getattr(scenario, name) for name in scenario.__struct_fields__}
    return Scenario(**named | {"garbage": garbage}).unset


def test_accesses_are_recorded_with_address_value_and_place(scenario):
    # movz x3, #0x4800, lsl #16; ldr x4, [x3, #8]; str x4, [x3, #24]; br x1
    result = run(scenario, 0xD2A90003, 0xF9400464, 0xF9000C64, BR_X1)
    load, store = (effect for effect in result.log if isinstance(effect, Access))
    assert (load.kind, load.at, load.address, load.size) == ("load", AT + 4, 0x48000008, 8)
    assert (store.kind, store.at, store.address, store.value) == ("store", AT + 8, 0x48000018, load.value)
    assert load.value == result.registers[4] == 0xC0DE_0000_4800_0008


@pytest.mark.parametrize("word, kind", [(0xF9400000, "load"), (0xF9000000, "store")])
def test_access_with_no_memory_behind_it_is_a_fault(scenario, word, kind):
    # ldr or str x0, [x15]
    result = run(scenario, NOP, word | 15 << 5, BR_X1)
    assert result.end.kind == "fault"
    assert (result.end.at, result.end.target) == (AT + 4, 0xBAD0_000F_000F_0F0F)
    assert result.log[-1].kind == kind


def test_store_to_the_code_is_a_fault(scenario):
    # adr x3, .; str x4, [x3]
    result = run(scenario, 0x10000003, 0xF9000064, BR_X1)
    assert (result.end.kind, result.end.target) == ("fault", AT)


@pytest.mark.parametrize(
    "words, kind",
    [
        ((0xD4210000,), "brk"),
        ((0x00000000,), "undefined"),
        ((0xFFFFFFFF,), "undefined"),
        ((NOP,), "fetch"),  # runs off the end
        ((0x14000000,), "endless"),  # b .
        ((0x91000484, 0x17FFFFFF), "timeout"),  # add x4, x4, #1; b .-4
        ((0xD65F03C0,), "ret"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_ends(scenario, words, kind):
    assert run(scenario, *words).end.kind == kind


@pytest.mark.parametrize(
    "words, at, target",
    [
        ((NOP, 0x14000004), 4, 20),  # b .+16, in the same host page
        ((NOP, 0x14100000), 4, 0x400004),  # far away
        ((NOP, NOP), 4, 8),  # runs off the end
        ((0x17FFFFFF,), 0, -4),
    ],
)
def test_control_that_leaves_the_code_ends_the_run(scenario, words, at, target):
    end = run(scenario, *words).end
    assert (end.kind, end.at, end.target) == ("fetch", AT + at, AT + target)


def test_system_registers_are_our_own(scenario):
    # msr sctlr_el1, x2; mrs x5, sctlr_el1; isb; br x1
    result = run(scenario, 0xD5181002, 0xD5381005, 0xD5033FDF, BR_X1)
    assert result.registers[5] == scenario.dtb_mem == result.context.sctlr_el1
    write, barrier = (effect for effect in result.log if isinstance(effect, Event))
    assert (write.name, write.operand, write.context.unsynced) == ("msr sctlr_el1", scenario.dtb_mem, 1)
    assert (barrier.context.unsynced, result.context.unsynced) == (1, 0)


def test_hvc_ends_the_run_or_returns(scenario):
    words = (0xD4000002, BR_X1)
    assert run(scenario, *words).end.kind == "hvc"
    refused = Scenario(
        **{name: getattr(scenario, name) for name in scenario.__struct_fields__} | {"hvc": "refused"}
    )
    result = run(refused, *words)
    assert result.end.kind == "br"
    assert result.end.target not in (0, scenario.start)  # x1 did not survive the call
    assert result.log[0].registers[1] == scenario.start


@pytest.mark.parametrize(
    ("word", "name"),
    [
        (0xD518C000, "msr vbar_el1"),
        (0xD50B7423, "DC_ZVA"),
        (0xD50343DF, "msr daif"),  # msr daifset, #3
        (0xD4000003, "CallSecureMonitor"),
        (0xF8400810, "unprivileged access"),  # ldtr x16, [x0]
    ],
)
def test_system_instruction_without_a_model_is_an_effect(scenario, word, name):
    result = run(scenario, NOP, word, BR_X1)
    assert [(e.name, e.at) for e in result.log if isinstance(e, Event)] == [(name, AT + 4)]


def test_instruction_of_el2_is_undefined(scenario):
    result = run(scenario, NOP, 0xD51CC000, BR_X1)  # msr vbar_el2, x0
    assert (result.end.kind, result.end.at) == ("undefined", AT + 4)


def test_read_of_a_register_without_a_model_is_unsupported(scenario):
    with pytest.raises(UnsupportedError) as caught:
        run(scenario, NOP, 0xD53BE040, BR_X1)  # mrs x0, cntvct_el0
    assert caught.value.address == AT + 4


def test_marks_are_in_order_with_accesses(scenario):
    result = run(scenario, 0xD2A90003, 0xF9400464, BR_X1, watch=frozenset({AT, AT + 8}))
    assert [type(effect) for effect in result.log] == [Mark, Access, Mark]


def test_path_ends_with_the_effect_that_was_asked_for(scenario):
    routine = code(0xD2A90003, 0xF9400464, 0xD5381005, NOP, BR_X1)
    path = record(routine, frozenset(), scenario, 100, stop_after=1).path
    assert [(step.at, [number for number, _ in step.changed]) for step in path] == [(AT, [3]), (AT + 4, [4])]
    whole = record(routine, frozenset(), scenario, 100, stop_after=9)
    assert (whole.count, whole.end.kind) == (5, "br")
    assert whole.path[2].changed == ((5, whole.registers[5]),)
    assert whole.path[-1].at == AT + 16
