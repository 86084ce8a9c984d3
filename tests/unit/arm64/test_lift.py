"""Decoding, control flow and loops of functions that are a few instructions long."""

from __future__ import annotations

import struct

import pytest
from kexec_verify.arm64.lift import Code, control_flow, decode, loops, successors
from kexec_verify.errors import UnsupportedError

BASE = 0x1000
NOP, RET, BR_X1, BRK, UDF = 0xD503201F, 0xD65F03C0, 0xD61F0020, 0xD4200020, 0


def b(distance: int) -> int:
    return 0x14000000 | distance & 0x3FFFFFF


def cbz(distance: int) -> int:
    return 0xB4000000 | (distance & 0x7FFFF) << 5


def code(*words: int) -> Code:
    return Code("example", BASE, struct.pack(f"<{len(words)}I", *words))


def edges(function: Code) -> set[tuple[int, int]]:
    return {((a - BASE) // 4, (z - BASE) // 4) for a, z in control_flow(function).edges}


@pytest.mark.parametrize(
    "word, text",
    [
        (0xA940354C, "ldp x12, x13, [x10]"),
        (0xA800352C, "stnp x12, x13, [x9]"),
        (0xD50B7E2B, "dc CIVAC, x11"),
        (0xD53B0023, "mrs x3, ctr_el0"),
        (0xD4000002, "hvc 0x0"),
        (0x9A881128, "csel x8, x9, x8, ne"),
    ],
)
def test_used_encodings_decode(word, text):
    instruction = decode(word, BASE)
    assert (instruction.text, instruction.word, instruction.address) == (text, word, BASE)


@pytest.mark.parametrize("word", [0xFFFFFFFF, 0x00010000, 0x9B800000])
def test_undefined_encoding_is_unsupported_by_word_and_address(word):
    with pytest.raises(UnsupportedError, match=rf"{word:#010x} at 0x1000"):
        decode(word, BASE)


def test_addresses_are_those_of_whole_instructions():
    function = Code("example", BASE, b"\0" * 11)
    assert list(function.addresses) == [BASE, BASE + 4]
    assert function.end == BASE + 11


@pytest.mark.parametrize("address", [BASE - 4, BASE + 2, BASE + 8])
def test_reading_outside_the_function_is_unsupported(address):
    with pytest.raises(UnsupportedError, match="control leaves example"):
        code(NOP, RET).at(address)


def test_where_is_as_the_kernel_prints_it():
    assert code(NOP, RET).where(BASE + 4) == "example+0x4/0x8"


def test_targets_outside_are_called_by_name_and_pages_by_their_address():
    high = 0xFFFF800008000000
    body = Code("example", high, b"".join(w.to_bytes(4, "little") for w in (0x94000400, 0xB0000001, b(-1))))
    names = {high + 0x1000: "callee"}
    assert body.text(body.at(high), names.__getitem__) == "bl callee"
    assert body.text(body.at(high)) == "bl 0xffff800008001000"
    assert body.text(body.at(high + 4)) == "adrp x1, 0xffff800008001000"
    assert body.text(body.at(high + 8)) == "b example+0x4/0xc"


def test_patched_replaces_one_instruction_in_a_copy():
    function = code(NOP, NOP, RET)
    patched = function.patched(BASE + 4, BR_X1)
    assert [patched.at(a).word for a in patched.addresses] == [NOP, BR_X1, RET]
    assert function.at(BASE + 4).word == NOP


@pytest.mark.parametrize(
    "word, offsets",
    [
        (NOP, [4]),
        (b(2), [8]),
        (cbz(2), [4, 8]),
        (0x36180040, [4, 8]),  # tbz w0, #3, .+8
        (0x54000041, [4, 8]),  # b.ne .+8
        (0x9A881128, [4]),  # csel branches within its p-code only
        (BR_X1, []),
        (RET, []),
        (0xD4000002, [4]),  # hvc may return
    ],
)
def test_successors(word, offsets):
    assert sorted(successors(decode(word, BASE))) == [BASE + offset for offset in offsets]


def test_control_flow_has_every_edge_and_only_what_is_reachable():
    assert edges(code(cbz(2), b(2), NOP, BR_X1, NOP)) == {(0, 1), (0, 2), (1, 3), (2, 3)}


@pytest.mark.parametrize("word, within", [(b(2), set()), (b(-1), set()), (cbz(2), {(0, 1)})])
def test_branch_out_of_the_function_is_no_edge(word, within):
    assert edges(code(word, RET)) == within


def test_falling_off_the_end_is_no_edge():
    assert edges(code(NOP, NOP)) == {(0, 1)}


def test_undefined_instruction_that_nothing_reaches_is_no_trouble():
    assert edges(code(b(2), 0xFFFFFFFF, RET)) == {(0, 2)}


def test_straight_code_has_no_loops():
    assert loops(code(cbz(2), NOP, RET)) == []


def test_loop_has_its_head_and_body():
    (loop,) = loops(code(NOP, NOP, cbz(-1), RET))
    assert loop.head == BASE + 4
    assert loop.body == {BASE + 4, BASE + 8}


def test_outer_loop_comes_before_inner():
    outer, inner = loops(code(NOP, NOP, cbz(-1), cbz(-3), RET))
    assert (outer.head, inner.head) == (BASE, BASE + 4)
    assert inner.body < outer.body


def test_two_ways_back_to_one_head_are_one_loop():
    (loop,) = loops(code(NOP, cbz(-1), cbz(-2), RET))
    assert loop.body == {BASE, BASE + 4, BASE + 8}
    # The second way back enters the smaller loop again.
    assert loop.inner == {BASE, BASE + 4}
    assert loop.goes_round(BASE + 4) and not loop.goes_round(BASE + 8)


def test_ways_back_of_which_none_holds_the_other_make_one_iteration():
    (loop,) = loops(code(cbz(2), 0x17FFFFFF, cbz(-2), RET))  # b -1
    assert loop.inner == loop.body == {BASE, BASE + 4, BASE + 8}
    (single,) = loops(code(NOP, NOP, cbz(-1), RET))
    assert single.inner == single.body


def test_instruction_that_branches_to_itself_is_a_loop():
    (loop,) = loops(code(NOP, cbz(0), RET))
    assert (loop.head, loop.body) == (BASE + 4, {BASE + 4})


def test_cycle_with_two_ways_in_is_unsupported():
    with pytest.raises(UnsupportedError, match="loop without a single head in example"):
        loops(code(cbz(2), NOP, cbz(-1), RET))
