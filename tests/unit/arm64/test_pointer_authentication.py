"""paciasp and autiasp: what is signed with SP comes back with the same SP, and nothing else is known."""

from __future__ import annotations

import pytest
from kexec_verify.arm64.execute import execute
from kexec_verify.arm64.lift import decode
from kexec_verify.arm64.pointer_authentication import AUTIASP, PACIASP
from kexec_verify.arm64.state import State
from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import const, same, var
from kexec_verify.prove.discharge import decide
from kexec_verify.symbolic.loops import generic_state

SUB_SP, ADD_SP, MOV_X0_X30, MOV_X30_X0 = 0xD10043FF, 0x910043FF, 0xAA1E03E0, 0xAA0003FE


def run(*words: int, state: State | None = None) -> State:
    state = state or generic_state()
    for index, word in enumerate(words):
        (step,) = execute(decode(word, 0x1000 + 4 * index), state)
        assert step.then == 0x1004 + 4 * index
        state = step.state
    return state


def test_signing_and_authenticating_gives_the_address_back():
    state = run(PACIASP, AUTIASP)
    assert same(state.registers["x30"], generic_state().registers["x30"])
    assert state.trace == (0x1000, 0x1004)


def test_a_signed_address_survives_a_frame_and_a_move():
    state = run(PACIASP, MOV_X0_X30, SUB_SP, ADD_SP, MOV_X30_X0, AUTIASP)
    assert same(state.registers["x30"], generic_state().registers["x30"])


def test_nothing_else_is_known_of_a_signed_address():
    before = generic_state()
    signed = run(PACIASP).registers
    assert {n for n, value in signed.items() if not same(value, before.registers[n])} == {"x30"}
    assert not decide((), signed["x30"] == before.registers["x30"])
    assert not decide((), signed["x30"] != before.registers["x30"])


def test_signatures_differ_by_address_and_by_stack_pointer():
    first = run(PACIASP).registers["x30"]
    moved = run(SUB_SP, PACIASP).registers["x30"]
    other = run(PACIASP, state=generic_state().with_registers(x30=var("other"))).registers["x30"]
    assert not same(first, moved) and not same(first, other)
    assert same(first, run(PACIASP).registers["x30"])


@pytest.mark.parametrize(
    "words",
    [
        (AUTIASP,),
        (PACIASP, SUB_SP, AUTIASP),
        (PACIASP, AUTIASP, AUTIASP),
        (PACIASP, PACIASP, SUB_SP, AUTIASP),
    ],
    ids=["unsigned", "other SP", "twice", "other SP of two"],
)
def test_authentication_of_anything_else_is_refused_at_its_address(words):
    with pytest.raises(UnsupportedError, match="was not signed with this SP") as caught:
        run(*words)
    assert caught.value.address == 0x1000 + 4 * (len(words) - 1)


def test_a_corrupted_signed_address_is_refused():
    state = run(PACIASP)
    state = state.with_registers(x30=state.registers["x30"] + const(4))
    with pytest.raises(UnsupportedError):
        run(AUTIASP, state=state)
