"""Lemmas on lines: facts about one loop's lines prove nothing about another's."""

from __future__ import annotations

import pytest
from kexec_verify.arm64.cache import line
from kexec_verify.arm64.lift import Code
from kexec_verify.kexec.abi_variant import entry_state
from kexec_verify.kexec.line_lemmas import Lines, prove_in_distances
from kexec_verify.logic import normal, ule
from kexec_verify.obligation import Obligation
from kexec_verify.prove.discharge import decide
from kexec_verify.symbolic.explore import ANYWHERE, Explorer

# Two loops: dc civac, x0 up to x1 by 64; dc civac, x2 up to x3 by 64; ret.
WORDS = (
    *(0xD50B7E20, 0x91010000, 0xEB01001F, 0x54FFFFA3),
    *(0xD50B7E22, 0x91010042, 0xEB03005F, 0x54FFFFA3),
    0xD65F03C0,
)


@pytest.fixture(scope="module")
def two() -> tuple[Lines, Lines]:
    code = Code("two", 0x1000, b"".join(word.to_bytes(4, "little") for word in WORDS))
    explorer = Explorer(code, frozenset())
    explorer.run(entry_state(), code.address)
    first, second = explorer.entered
    return Lines("data", first), Lines("data", second)


def asked(two: tuple[Lines, Lines], about: int, bound: int) -> Obligation:
    """The question whether the word's line is no further from one loop's first than another has gone."""
    near, far = two[about], two[bound]
    facts = tuple((f"loop {i} has not wrapped", ule(lines.first, lines.last)) for i, lines in enumerate(two))
    goal = ule(normal(line(ANYWHERE) - near.first), far.loop.progress)
    *_, last = prove_in_distances(
        Obligation("lines", "the line is near", facts, goal), two, lambda *_: True, lambda lines: lines.bounds
    )
    return last


@pytest.mark.parametrize("loop", [0, 1])
def test_bounds_of_a_loop_bound_the_distance_from_its_own_first_line(two, loop):
    """Only the first loop's lines are put as distances; of the second's the goal says nothing then."""
    required = asked(two, loop, loop)
    assert decide(required.hypotheses, required.goal) == (loop == 0)


@pytest.mark.parametrize(("about", "bound"), [(0, 1), (1, 0)])
def test_bounds_of_a_loop_say_nothing_of_another(two, about, bound):
    required = asked(two, about, bound)
    assert not decide(required.hypotheses, required.goal)
