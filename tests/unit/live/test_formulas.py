"""Formulas evaluated on values: what holds, what does not, and what no emulator can show."""

from __future__ import annotations

import pytest
from kexec_verify.arm64.cache import Lines
from kexec_verify.live.checks import Checks
from kexec_verify.live.formulas import Compiled, State, UntestableError
from kexec_verify.logic import And, Function, Not, aligned, const, ult, var
from kexec_verify.report.live_model import Seen


def state(registers: dict[str, int], words: dict[int, int] | None = None, **variables: int) -> State:
    return State(registers.__getitem__, (words or {}).__getitem__, variables)


def test_a_register_is_looked_up_without_its_moment():
    formula = aligned(var("sp@machine_kexec"), 16)
    assert Compiled(formula).holds(state({"sp": 0x1000}))
    assert not Compiled(formula).holds(state({"sp": 0x1008}))


def test_memory_is_read_at_the_address_that_the_formula_computes():
    word = Function("kimage@entry")(var("x0@f") + 56)
    seen = state({"x0": 0x100}, {0x138: 3})
    assert Compiled(ult(word, const(4))).holds(seen)
    assert seen.seen == {"x0@f": 0x100, "[0x138]": 3}


def test_a_term_has_a_value():
    assert Compiled(var("x0@f") - var("x1@f")).value(state({"x0": 1, "x1": 2})) == (1 << 64) - 1


def test_a_constant_is_a_formula_too():
    assert Compiled(const(7)).value(state({})) == 7


@pytest.mark.parametrize("formula", [var("unsynced@f", 1) == 0, Lines("L@f").read(var("x0@f")) != 3])
def test_caches_and_outstanding_changes_are_not_testable(formula):
    with pytest.raises(UntestableError):
        Compiled(formula).holds(state({"x0": 0}))


def test_checks_tell_the_first_state_in_which_a_formula_is_false():
    checks = Checks()
    states = [state({}, segment=i) for i in range(4)]
    checks.formula("nr-segments", "at an entry", ult(var("segment"), const(2)), states)
    (record,) = checks.records
    assert (record.seen, record.value) == (Seen.FALSE, "segment = 0x2")


def test_checks_count_the_states_in_which_a_formula_is_true():
    checks = Checks()
    checks.formula("mmu-on", "", And(var("i") == 1, Not(var("i") == 2)), [state({}, i=1), state({}, i=1)])
    assert checks.records[0].seen is Seen.HELD
    assert checks.records[0].value == "i = 0x1; true of 2"


def test_a_formula_about_nothing_is_not_held():
    checks = Checks()
    checks.formula("mmu-on", "", var("i") == 1, [])
    assert checks.records[0].seen is Seen.UNTESTED
