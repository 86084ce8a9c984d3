"""Substitution rebuilds terms, arguments of functions included, and folds what became constant."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from kexec_verify.logic import And, Function, If, const, constant, same, shift_right, ule, ult, var
from kexec_verify.substitute import substitute

WORDS = st.integers(0, 2**64 - 1)


def test_variables_are_replaced_at_once() -> None:
    x, y = var("x"), var("y")
    swapped = {"x": y, "y": x}
    found = substitute(x - y, lambda name, width: swapped[name])
    assert same(found, y - x)


def test_a_function_is_applied_anew_to_what_its_arguments_became() -> None:
    f, x, y = Function("substituted"), var("x"), var("y")
    found = substitute(f(f(x) + 8) + 1, lambda name, width: y if name == "x" else None)
    assert same(found, f(f(y) + 8) + 1)


def test_a_function_is_replaced_and_its_value_is_not_replaced_again() -> None:
    f, x, y = Function("substituted"), var("x"), var("y")
    found = substitute(
        f(x) + x,
        lambda name, width: y if name == "x" else None,
        lambda name, width, arguments: arguments[0] * 2 + x if name == "substituted" else None,
    )
    assert same(found, y * 2 + x + y)


def test_what_is_not_named_stays_the_same_term() -> None:
    term = If(ult(var("x"), var("y")), Function("byte", 8)(var("x")), const(3, 8))
    assert substitute(term, lambda name, width: None) is term


@given(WORDS, WORDS)
def test_constants_fold_to_the_operators_values(a: int, b: int) -> None:
    x, y, mask = var("x"), var("y"), 2**64 - 1
    values = {"x": const(a), "y": const(b)}

    def value(term):
        return constant(substitute(term, lambda name, width: values[name]))

    assert value(x + y - 3) == (a + b - 3) & mask
    assert value((x & y) | (x ^ ~y)) == (a & b) | (a ^ ~b & mask)
    assert value(shift_right(x, y & 63)) == a >> (b & 63)
    assert value(x[31:8].concat(y[7:0]).sign_extend(32)) == _signed((a >> 8 & 0xFFFFFF) << 8 | b & 0xFF)
    assert value(If(And(ule(x, y), x != y), x, y.zero_extend(8)[63:0])) == (a if a < b else b)


def _signed(value: int) -> int:
    return (value - (1 << 32 if value >> 31 else 0)) % 2**64
