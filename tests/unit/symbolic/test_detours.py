"""Ways of an instruction that is one of two: followed apart, or one of them for both."""

from __future__ import annotations

import struct

import pytest
from kexec_verify.arm64.cache import Lines
from kexec_verify.arm64.execute import Exit, Step
from kexec_verify.arm64.lift import Code
from kexec_verify.arm64.state import Event, State, unknown_ghosts, unknown_registers
from kexec_verify.logic import same
from kexec_verify.memory import Unknown
from kexec_verify.symbolic.detours import JOINED, MOST_INSTRUCTIONS, comes_back, is_live
from kexec_verify.symbolic.explore import Explorer

BASE = 0xFFFF_8000_0800_0000
NOP, RET = 0xD503201F, 0xD65F03C0
X0_IS_1, X19_IS_1 = 0xD2800020, 0xD2800033  # mov
STORES = 0xF900_0020  # str x0, [x1]
X0_IS_LOADED = 0xF940_0020  # ldr x0, [x1]
CALL = 0x9400_0100  # bl, out of the function
BRANCHES = 0xB400_0040  # cbz x0, two words on


def branch(words: int) -> int:
    return 0x14000000 | words & 0x3FFFFFF


def code(*detour: int) -> Code:
    """Nothing, or the detour, and then a return."""
    words = (NOP, RET, *detour, branch(-1 - len(detour)))
    data = struct.pack(f"<{len(words)}I", *words)
    return Code("f", BASE, data, calls=True, either={BASE: (NOP, branch(2))})


def called(step: Step) -> list[Step] | None:
    if not isinstance(step.then, Exit) or step.then.kind != "call":
        return None
    at = step.state.trace[-1]
    event = Event("call g", (), at, 0, step.state)
    return [Step(State(**{**vars(step.state), "events": (event,)}), at + 4)]


def ends(function: Code, harmless: bool = True) -> list[Step]:
    start = State(unknown_registers("entry"), unknown_ghosts("entry"), Unknown("memory"), Lines("lines"))
    explorer = Explorer(function, frozenset(), leave=called, harmless=lambda event: harmless)
    return explorer.run(start, BASE)


def kinds(found: list[Step]) -> list[str]:
    return [step.then.kind for step in found if isinstance(step.then, Exit)]


@pytest.mark.parametrize("detour", [(X0_IS_1,), (X0_IS_LOADED,), (CALL,), (X0_IS_1, CALL, NOP)])
def test_one_path_goes_on_for_both(detour: tuple[int, ...]):
    found = ends(code(*detour))
    assert kinds(found) == [JOINED, "ret"]
    apart, on = (step.state for step in found)
    assert on.trace == (BASE, BASE + 4)  # as it is linked
    assert apart.trace == (BASE, *(BASE + 8 + 4 * i for i in range(len(detour) + 1)))
    # Whatever the detour has changed may hold anything there, its own value and the linked one among them.
    differ = {n for n, value in apart.registers.items() if not same(value, on.registers[n])}
    names = {f"{name}@{'either 1'}" for name in differ}
    assert ("x0" in differ) == (detour != (CALL,))
    assert {name for name, _ in on.forgotten} == names
    assert all(same(value, unknown_registers("entry")[name.split("@")[0]]) for name, value in on.forgotten)


@pytest.mark.parametrize("detour", [(X19_IS_1,), (STORES,), (BRANCHES, X19_IS_1), (NOP,) * MOST_INSTRUCTIONS])
def test_way_that_does_more_is_followed_to_the_end(detour: tuple[int, ...]):
    found = ends(code(*detour))
    assert set(kinds(found)) == {"ret"} and len(found) == (3 if BRANCHES in detour else 2)
    assert all(step.state.forgotten == () for step in found)
    linked, *others = found
    assert linked.state.trace == (BASE, BASE + 4)
    if detour == (X19_IS_1,):
        assert {int(step.state.registers["x19"].args[0]) for step in others} == {1}


def test_detour_that_branches_is_one_detour():
    found = ends(code(BRANCHES, X0_IS_1))
    assert kinds(found) == ["ret", JOINED, JOINED] or kinds(found) == [JOINED, JOINED, "ret"]
    (on,) = (step.state for step in found if kinds([step]) == ["ret"])
    # x0 is unchanged on one of the ways, and 1 on the other.
    assert [name for name, _ in on.forgotten] == ["x0@either 1"]
    assert on.facts == ()


def test_register_that_a_call_keeps_may_differ_if_nothing_reads_it():
    words = (NOP, X19_IS_1, RET, X19_IS_1, branch(-3))
    data = struct.pack("<5I", *words)
    function = Code("f", BASE, data, calls=True, either={BASE: (NOP, branch(3))})
    assert not is_live(function, BASE + 4, "x19") and is_live(function, BASE + 8, "x19")
    assert is_live(function, BASE + 4, "x20")  # the caller's
    assert kinds(ends(function)) == [JOINED, "ret"]


def test_way_out_of_the_function_reads_every_register():
    out = Code("f", BASE, struct.pack("<2I", NOP, branch(0x100)), calls=True)
    assert is_live(out, BASE, "x19")
    # Behind a call of a function that never returns nothing runs.
    call = struct.pack("<2I", CALL, branch(0x100))
    never = Code("f", BASE, call, calls=True, final=frozenset({BASE + 0x400}))
    assert not is_live(never, BASE, "x19") and is_live(Code("f", BASE, call, calls=True), BASE, "x19")


def test_call_that_matters_keeps_the_ways_apart():
    found = ends(code(CALL), harmless=False)
    assert kinds(found) == ["ret", "ret"]
    assert [len(step.state.events) for step in found] == [0, 1]


def test_what_is_forgotten_twice_has_two_names():
    """A loop's iterations must not be taken for equal because of the name."""
    twice = (NOP, NOP, RET, X0_IS_1, branch(-3), X0_IS_1, branch(-4))
    data = struct.pack("<7I", *twice)
    either = {BASE: (NOP, branch(3)), BASE + 4: (NOP, branch(4))}
    found = ends(Code("f", BASE, data, calls=True, either=either))
    (last,) = (step.state for step in found if kinds([step]) == ["ret"])
    first, second = last.forgotten
    assert first[0] != second[0] and second[1].args[0] == first[0]


def test_detour_through_a_cutpoint_is_none():
    function = code(NOP, X0_IS_1)
    assert comes_back(function, BASE + 8, BASE + 4, ())
    assert not comes_back(function, BASE + 8, BASE + 4, {BASE + 12})
