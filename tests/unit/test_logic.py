"""Sums and functions: rewriting keeps meaning, equal applications are equal terms."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kexec_verify.logic import (
    And,
    Function,
    If,
    Implies,
    Not,
    Or,
    aligned,
    application,
    const,
    constant,
    difference,
    normal,
    offset_from,
    same,
    shift_right,
    ule,
    ult,
    var,
    variables,
    within,
)
from kexec_verify.prove.smtlib import script
from kexec_verify.prove.solvers import Answer, ask_bitwuzla

MASK = (1 << 64) - 1
X, Y, Z = (var(name) for name in "xyz")

edges = st.sampled_from([0, 1, 8, 64, 1 << 63, MASK, MASK - 7])
constants = st.one_of(st.integers(0, MASK), edges).map(const)
# Other factors make questions on which a solver may give up, which says nothing of ours.
factors = st.sampled_from([0, 1, 2, 8, 64, 1 << 63, MASK]).map(const)
atoms = st.one_of(st.sampled_from([X, Y, Z, X & Y, Function("logic-f")(X)]), constants)
sums = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: pair[0] + pair[1]),
        st.tuples(inner, inner).map(lambda pair: pair[0] - pair[1]),
        inner.map(lambda term: -term),
        st.tuples(inner, factors).map(lambda pair: pair[0] * pair[1]),
        st.tuples(factors, inner).map(lambda pair: pair[0] * pair[1]),
    ),
    max_leaves=8,
)


def holds(goal, *hypotheses) -> bool:
    facts = [(f"h{i}", hypothesis) for i, hypothesis in enumerate(hypotheses)]
    return ask_bitwuzla(script(facts, goal)).answer is Answer.UNSAT


def test_solver_tells_a_wrong_sum_from_a_right_one():
    assert holds(normal(X + Y - X) == Y)
    assert not holds(normal(X + Y - X) == X)


@settings(max_examples=120, deadline=None)
@given(sums)
def test_normal_keeps_the_value(term):
    assert holds(normal(term) == term)


@settings(max_examples=120, deadline=None)
@given(sums, sums)
def test_difference_is_the_difference(left, right):
    assert holds(difference(left, right) == left - right)


@settings(max_examples=60, deadline=None)
@given(sums)
def test_normal_is_idempotent(term):
    assert same(normal(normal(term)), normal(term))


@settings(max_examples=60, deadline=None)
@given(sums, sums, sums)
def test_order_and_grouping_of_a_sum_do_not_matter(a, b, c):
    assert same(normal((a + b) + c), normal(c + (b + a)))


@settings(max_examples=60, deadline=None)
@given(sums, st.integers(-(1 << 63), (1 << 63) - 1))
def test_offset_from_finds_every_constant_distance(term, distance):
    assert offset_from(term + const(distance), term) == distance


@pytest.mark.parametrize("term, base", [(X, Y), (X * 2, X), (X & ~7, X), (Function("logic-f")(X), X)])
def test_offset_from_says_none_where_the_distance_is_no_constant(term, base):
    assert offset_from(term, base) is None


def test_equal_applications_are_one_term():
    f = Function("interned")
    assert same(f(X + 8), Function("interned")(8 + X))
    assert same(f(X + Y - Y), f(X))
    assert same(f(3), f(const(3)))


def test_different_applications_are_different_terms():
    f = Function("interned")
    assert not same(f(X), f(Y))
    assert not same(f(X), f(X + 8))
    assert not same(f(X), Function("another")(X))
    assert not same(Function("pair")(X, Y), Function("pair")(Y, X))


def test_functions_are_consistent_for_equal_arguments_only():
    f = Function("consistent")
    assert holds(f(X) == f(Y), X == Y)
    assert holds(f(f(X)) == f(f(Y)), X == Y)
    assert not holds(f(X) == f(Y))
    assert not holds(f(X) == Function("consistent2")(X))


def test_function_of_another_width_is_another_function():
    Function("wide")(X)
    with pytest.raises(AssertionError, match="wide"):
        Function("wide", 1)(X)


def test_application_is_told_from_a_variable():
    term = Function("named")(X + 8)
    assert application(term).function == "named"
    assert same(application(term).arguments[0], X + 8)
    assert application(X) is None
    assert application(X + 8) is None


def test_variables_include_those_of_arguments():
    names = variables([Function("outer")(Function("inner")(X) + Y)])
    assert {"x", "y"} <= set(names)
    assert "z" not in names


@settings(deadline=None)
@given(st.integers(0, MASK), st.integers(0, MASK), st.integers(0, MASK))
def test_within_is_a_range_modulo_the_address_space(address, start, length):
    inside = (address - start) % (1 << 64) < length
    assert within(const(address), const(start), const(length)).is_true() == inside


@pytest.mark.parametrize(
    "address, inside", [(0x1000, True), (0x1FFF, True), (0x2000, False), (0xFFF, False), (0, False)]
)
def test_within_excludes_the_end(address, inside):
    assert within(const(address), const(0x1000), 0x1000).is_true() == inside


def test_nothing_is_within_an_empty_range():
    assert holds(Not(within(X, Y, 0)))


@pytest.mark.parametrize("size", [1, 8, 4096, 65536])
def test_aligned_is_divisible(size):
    assert holds(aligned(X * size, size))
    assert aligned(const(3 * size), size).is_true()
    assert size == 1 or aligned(const(3 * size + 1), size).is_false()


def test_comparisons_are_unsigned():
    assert ult(const(1), const(-1)).is_true()
    assert ule(const(-1), const(1)).is_false()
    assert ule(const(5), const(5)).is_true()
    assert ult(const(5), const(5)).is_false()


def test_shift_right_brings_in_zeros():
    assert constant(shift_right(const(1 << 63), const(63))) == 1


def test_constants_are_modulo_their_width():
    assert constant(const(-1)) == MASK
    assert constant(const(0x1FF, 8)) == 0xFF


def test_empty_connectives():
    assert And().is_true()
    assert Or().is_false()


def test_implies_is_false_only_from_true_to_false():
    true, false = And(), Or()
    table = [Implies(a, b).is_true() for a in (true, false) for b in (true, false)]
    assert table == [True, False, True, True]


def test_if_of_one_term_is_that_term():
    assert If(X == Y, Z, Z) is Z
    assert holds(If(X == Y, X, Y) == Y)
