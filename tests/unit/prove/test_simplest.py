"""Of many models one in which as many wishes as possible come true, the earlier first."""

from __future__ import annotations

from kexec_verify.logic import FALSE, Function, const, ule, var
from kexec_verify.prove.simplest import simplest_model

X, Y = var("x"), var("y")


def test_wishes_are_granted_where_they_can_be():
    facts = (("order", ule(const(5), X)),)
    found = simplest_model(facts, FALSE, [X == 0, Y == 7, X == 5])
    assert found is not None and (found["x"], found["y"]) == (5, 7)


def test_the_earlier_of_two_wishes_wins():
    found = simplest_model((("sum", X + Y == 9),), FALSE, [X == 1, Y == 1])
    assert found is not None and (found["x"], found["y"]) == (1, 8)


def test_the_goal_is_false_in_the_model():
    found = simplest_model((), ule(X, const(3)), [X == 0, X == 4])
    assert found is not None and found["x"] == 4


def test_functions_are_functions():
    f = Function("of a wish")
    facts = (("differ", f(X) != f(Y)),)
    found = simplest_model(facts, FALSE, [X == 1, Y == 1])
    assert found is not None and found["x"] == 1 != found["y"]


def test_contradictions_have_no_model():
    assert simplest_model((("no", X != X + 0), ("none", ule(X + 1, X))), const(-1) == X, []) is None
