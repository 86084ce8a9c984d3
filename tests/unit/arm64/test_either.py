"""Instructions that are one of two at any time, as static keys make them."""

from __future__ import annotations

import struct

from kexec_verify.arm64.cache import Lines
from kexec_verify.arm64.lift import Code, loops
from kexec_verify.arm64.state import State, unknown_ghosts, unknown_registers
from kexec_verify.logic import constant, var
from kexec_verify.memory import Unknown
from kexec_verify.symbolic.explore import Explorer

BASE = 0xFFFF_8000_0800_0000
NOP, RET, MOV_1, MOV_2 = 0xD503201F, 0xD65F03C0, 0xD2800020, 0xD2800040


def branch(words: int) -> int:
    return 0x14000000 | words & 0x3FFFFFF


def code(*words: int, either: dict[int, tuple[int, int]]) -> Code:
    data = struct.pack(f"<{len(words)}I", *words)
    return Code("f", BASE, data, calls=True, either={BASE + at: pair for at, pair in either.items()})


FUNCTION = code(NOP, MOV_1, RET, MOV_2, RET, either={0: (NOP, branch(3))})


def test_both_ways_are_explored_and_told_apart():
    registers = unknown_registers("entry")
    state = State(registers, unknown_ghosts("entry"), Unknown("M"), Lines("L"))
    explorer = Explorer(FUNCTION, frozenset())
    explorer.chosen = lambda at, is_set: ((f"{at - BASE} {is_set}", var("key", 1) == int(is_set)),)
    ends = explorer.run(state, BASE)
    found = {step.state.facts[-1][0]: constant(step.state.registers["x0"]) for step in ends}
    assert found == {"0 False": 1, "0 True": 2}


def test_code_that_only_one_way_reaches_is_part_of_the_control_flow():
    back = code(NOP, NOP, MOV_1, RET, either={4: (NOP, branch(-1))})
    assert [loop.head for loop in loops(back)] == [BASE]
    assert loops(code(NOP, NOP, MOV_1, RET, either={})) == []


def test_run_along_a_path_has_the_instruction_that_takes_it():
    linked, turned = (BASE, BASE + 4, BASE + 8), (BASE, BASE + 12, BASE + 16)
    for trace, word in ((linked, NOP), (turned, branch(3))):
        taken = FUNCTION.as_taken(trace)
        assert taken is not None and taken.at(BASE).word == word
        assert taken.data[4:] == FUNCTION.data[4:]
    # In one run it cannot be both, and neither goes to its own address.
    assert FUNCTION.as_taken((*linked, *turned)) is None
    assert FUNCTION.as_taken((BASE, BASE)) is None


def test_copy_with_another_instruction_keeps_what_is_either():
    assert FUNCTION.patched(BASE + 4, NOP).ways(BASE) == FUNCTION.ways(BASE)
