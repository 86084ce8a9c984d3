"""One cutpoint for each loop, one for a nest that one address cuts, in the order of control."""

from __future__ import annotations

import struct

import pytest
from kexec_verify.arm64.lift import Code, loops
from kexec_verify.errors import UnsupportedError
from kexec_verify.symbolic.cutpoints import Cut, cuts

BASE, CALLEE = 0x1000, 0x2000
NOP, RET = 0xD503201F, 0xD65F03C0


def b(distance: int) -> int:
    return 0x14000000 | distance & 0x3FFFFFF


def bl(distance: int) -> int:
    return 0x94000000 | distance & 0x3FFFFFF


def cbz(distance: int) -> int:
    return 0xB4000000 | (distance & 0x7FFFF) << 5


def code(*words: int, callee: tuple[int, ...] = ()) -> Code:
    further = (Code("callee", CALLEE, struct.pack(f"<{len(callee)}I", *callee), True),) if callee else ()
    data = struct.pack(f"<{len(words)}I", *words)
    return Code("example", BASE, data, True, continuations=further)


def places(function: Code) -> list[tuple[int, bool]]:
    return [((cut.at - BASE) // 4, cut.shared) for cut in cuts(function)]


def test_a_loop_is_cut_at_its_head():
    assert places(code(NOP, NOP, cbz(-1), RET)) == [(1, False)]
    assert places(code(NOP, RET)) == []


def test_loops_are_cut_in_the_order_in_which_control_comes_to_them():
    # The first loop is behind the second in memory.
    assert places(code(b(3), cbz(0), RET, cbz(0), b(-3))) == [(3, False), (1, False)]


def test_a_nest_of_two_heads_is_cut_at_the_one_that_every_cycle_passes():
    # As gcc makes a walk of the list: 1 is where two cases go on, 2 where the third does.
    walk = code(NOP, NOP, NOP, cbz(-2), cbz(-2), RET)
    assert [(loop.head - BASE) // 4 for loop in loops(walk)] == [1, 2]
    assert places(walk) == [(2, True)]
    assert loops(walk, frozenset({BASE + 8})) == []


def test_a_cycle_without_a_single_head_is_cut_where_every_cycle_passes():
    irreducible = code(cbz(2), NOP, NOP, cbz(-2), RET)
    with pytest.raises(UnsupportedError, match="without a single head"):
        loops(irreducible)
    ((at, shared),) = places(irreducible)
    assert shared and at in (1, 2, 3)


def test_a_nest_that_no_one_address_cuts_has_a_cutpoint_at_each_head():
    # Two inner loops, one after the other, in an outer one.
    nest = code(NOP, cbz(0), cbz(0), cbz(-3), RET)
    assert sorted(places(nest)) == [(0, False), (1, False), (2, False)]


def test_a_loop_of_a_callee_that_is_run_in_place_is_cut_in_order():
    callee = (NOP, cbz(-1), RET)
    function = code(bl((CALLEE - BASE) // 4), cbz(0), RET, callee=callee)
    assert [cut.at for cut in cuts(function)] == [CALLEE, BASE + 4]


def test_loops_that_are_not_wanted_are_left():
    function = code(cbz(0), NOP, cbz(-1), RET)
    assert cuts(function, lambda at: at == BASE + 4) == [Cut(BASE + 4)]
