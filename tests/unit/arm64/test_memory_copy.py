"""CPYP, CPYM and CPYE: what they mean as a sequence, and what is refused."""

from __future__ import annotations

import random
import struct
from dataclasses import replace

import pytest
from kexec_verify.arm64 import mops
from kexec_verify.arm64.execute import execute
from kexec_verify.arm64.lift import Code
from kexec_verify.arm64.state import FLAGS, GENERAL, SYSTEM, State
from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import const, constant, var
from kexec_verify.refute.functions.effects import Inputs
from kexec_verify.refute.functions.path_run import PathRun
from kexec_verify.symbolic.loops import generic_state
from kexec_verify.symbolic.objects import Object, Objects

AT = 0xFFFF_8000_0800_0000
DATA = 0xFFFF_0000_0010_0000
CPYP, CPYM, CPYE = 0x1D010443, 0x1D410443, 0x1D810443  # [x3]!, [x1]!, x2!
CPYM_X4, CPYFP, CPYPT = 0x1D410444, 0x19010443, 0x1D011443
NOP, RET = 0xD503201F, 0xD65F03C0


def code(*words: int, copies: bool = True) -> Code:
    data = struct.pack(f"<{len(words)}I", *words)
    return Code("made", AT, data, calls=True, copies_memory=copies)


def run(found: Code, state: State, steps: int = 3) -> State:
    at = AT
    for _ in range(steps):
        (step,) = execute(found.at(at), state)
        state, at = step.state, step.then
    return state


def entry(count: int, ahead: int) -> State:
    """The destination lies ``ahead`` bytes behind the source, in one object."""
    base = var("base")
    memory = Objects((Object("data", base, 0, 64),))
    state = replace(generic_state(), memory=memory)
    return state.with_registers(x1=base, x2=const(count), x3=base + ahead)


@pytest.mark.parametrize(("count", "ahead"), [(0, 0), (1, 1), (7, 32), (24, 8), (24, 1)])
def test_every_byte_is_copied_also_onto_an_overlap(count: int, ahead: int):
    before = entry(count, ahead)
    after = run(code(CPYP, CPYM, CPYE), before)
    for i in range(count):
        byte = after.memory.load(before.registers["x3"] + i, 1)
        assert byte.hash() == before.memory.load(before.registers["x1"] + i, 1).hash()
    assert [a.kind for a in after.accesses] == ["load"] * count + ["store"] * count
    assert constant(after.registers["x2"]) == 0
    changed = {n for n in GENERAL if after.registers[n].hash() != before.registers[n].hash()}
    assert changed >= {"x1", "x3"} and changed <= {"x1", "x2", "x3"}


def test_nothing_is_known_of_flags_and_addresses_afterwards():
    once = run(code(CPYP, CPYM, CPYE), entry(8, 32))
    again = run(code(CPYP, CPYM, CPYE), replace(entry(8, 32), trace=once.trace))
    for name in (*FLAGS, "x1", "x3"):
        assert once.registers[name].op == "BVS"
        assert once.registers[name].hash() != again.registers[name].hash()


def test_two_of_the_three_are_no_copy():
    before = entry(8, 32)
    state = run(code(CPYP, CPYM, CPYE), before, steps=2)
    assert state.accesses == () and state.memory is before.memory


@pytest.mark.parametrize(
    "words",
    [
        (CPYP, CPYM, NOP),
        (CPYP, NOP, CPYE),
        (CPYP, CPYM_X4, CPYE),
        (CPYP, CPYE, CPYM),
        (CPYP, CPYM),
        (CPYFP, 0x19410443, 0x19810443),
        (CPYPT, 0x1D411443, 0x1D811443),
        (0x1D010421, 0x1D410421, 0x1D810421),  # one register twice
    ],
)
def test_what_is_no_whole_copy_is_refused(words: tuple[int, ...]):
    with pytest.raises(UnsupportedError):
        run(code(*words, RET), entry(8, 32))


def test_a_copy_needs_the_capability():
    with pytest.raises(UnsupportedError):
        code(CPYP, CPYM, CPYE, copies=False).at(AT)
    assert mops.part(CPYP) is not None and mops.part(RET) is None


@pytest.mark.parametrize("first", [1, 2])
def test_a_copy_that_is_entered_in_its_middle_is_refused(first: int):
    found = code(CPYP, CPYM, CPYE)
    with pytest.raises(UnsupportedError, match="middle"):
        list(execute(found.at(AT + 4 * first), replace(entry(8, 32), trace=(AT + 4 * first,))))


@pytest.mark.parametrize("count", [var("n"), const(1 << 20), const(-1)])
def test_a_copy_of_any_length_is_refused(count):
    with pytest.raises(UnsupportedError, match="number of bytes"):
        run(code(CPYP, CPYM, CPYE), entry(8, 32).with_registers(x2=count))


def inputs(**registers: int) -> Inputs:
    given = dict.fromkeys((*GENERAL, "sp", *FLAGS, *SYSTEM), 0) | registers
    words = {DATA + 8 * i: random.Random(i).getrandbits(64) for i in range(64)}
    return Inputs(AT, given, words, (DATA,), (), 100)


@pytest.mark.parametrize(("count", "ahead"), [(0, 8), (13, 100), (40, 8), (40, -8 % (1 << 64))])
def test_a_run_copies_as_memmove_does(count: int, ahead: int):
    source = DATA + 64
    made = PathRun(code(CPYP, CPYM, CPYE, RET), inputs(x1=source, x2=count, x3=(source + ahead) % (1 << 64)))
    before = [made.read(source + i, 1) for i in range(count)]
    made.run()
    assert made.left is not None and made.left.kind == "ret"
    to = (source + ahead) % (1 << 64)
    assert [made.read(to + i, 1) for i in range(count)] == before
    assert [(a.kind, a.size) for a in made.accesses] == [("load", 1)] * count + [("store", 1)] * count
    assert made.registers()["x2"] == 0


def test_a_run_that_copies_from_nowhere_ends_there():
    made = PathRun(code(CPYP, CPYM, CPYE, RET), inputs(x1=0x1000, x2=4, x3=DATA))
    made.run()
    assert made.left is not None and made.left.kind.startswith("fault") and made.left.at == AT + 8
