"""The SMT-LIB text says what the formula means, to both solvers, and is the same in every run."""

from __future__ import annotations

import random

import pytest
from kexec_verify import logic
from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import FALSE, TRUE, And, Function, If, Not, Or, const, normal, var
from kexec_verify.parts_of_angr import claripy
from kexec_verify.prove import smtlib
from kexec_verify.prove.smtlib import script
from kexec_verify.prove.solvers import Answer, ask_bitwuzla, ask_z3

TERMS = {
    "__add__": lambda x, y: x + y,
    "__sub__": lambda x, y: x - y,
    "__mul__": lambda x, y: x * y,
    "__and__": lambda x, y: x & y,
    "__or__": lambda x, y: x | y,
    "__xor__": lambda x, y: x ^ y,
    "__lshift__": lambda x, y: x << y,
    "__rshift__": lambda x, y: x >> y,
    "__floordiv__": lambda x, y: x // y,
    "__mod__": lambda x, y: x % y,
    "__neg__": lambda x, y: -x,
    "__invert__": lambda x, y: ~x,
    "LShR": claripy.LShR,
    "Concat": claripy.Concat,
    "Extract": lambda x, y: x[5:2],
    "ZeroExt": lambda x, y: x.zero_extend(3),
    "SignExt": lambda x, y: x.sign_extend(3),
    "If": lambda x, y: claripy.If(claripy.ULT(x, y), x, y),
}
FORMULAS = {
    "ULT": claripy.ULT,
    "ULE": claripy.ULE,
    "UGT": claripy.UGT,
    "UGE": claripy.UGE,
    "SLT": claripy.SLT,
    "SLE": claripy.SLE,
    "SGT": claripy.SGT,
    "SGE": claripy.SGE,
    "__eq__": lambda x, y: x == y,
    "__ne__": lambda x, y: x != y,
    "And": lambda x, y: And(claripy.ULT(x, y), claripy.SLT(x, y)),
    "Or": lambda x, y: Or(claripy.ULT(x, y), claripy.SLT(x, y)),
    "Not": lambda x, y: claripy.Not(And(claripy.ULT(x, y), claripy.SLT(x, y))),
}
SOLVERS = [ask_z3, ask_bitwuzla]


def answers(hypotheses, goal) -> list[Answer]:
    text = script(hypotheses, goal)
    return [ask(text).answer for ask in SOLVERS]


def samples(width: int) -> list[tuple[int, int]]:
    rng = random.Random(width)
    top = (1 << width) - 1
    edges = [(0, 1), (top, 1), (1, top), (top, top), (1 << (width - 1), 3), (7, width), (top, width - 1)]
    random_pairs = [(rng.getrandbits(width), rng.getrandbits(width) or 1) for _ in range(5)]
    # Division and multiplication of wide words take a solver long.
    return edges + random_pairs if width == 8 else edges[1:3] + random_pairs[:2]


def test_every_operator_of_the_printer_is_tried_here():
    assert set(smtlib._OPERATORS) <= set(TERMS) | set(FORMULAS)


@pytest.mark.parametrize("width", [8, 64])
@pytest.mark.parametrize("operator", TERMS)
def test_solvers_compute_what_claripy_folds(operator, width):
    x, y = var(f"x{width}", width), var(f"y{width}", width)
    term = TERMS[operator](x, y)
    assert term.op == operator
    for a, b in samples(width):
        given = [("x", x == const(a, width)), ("y", y == const(b, width))]
        folded = TERMS[operator](const(a, width), const(b, width))
        assert folded.op == "BVV"
        assert answers(given, term == folded) == [Answer.UNSAT, Answer.UNSAT], (a, b)
        assert answers(given, term != folded) == [Answer.SAT, Answer.SAT], (a, b)


@pytest.mark.parametrize("operator", FORMULAS)
def test_solvers_decide_what_claripy_folds(operator):
    x, y = var("x8", 8), var("y8", 8)
    formula = FORMULAS[operator](x, y)
    assert formula.op == operator
    for a, b in samples(8):
        given = [("x", x == const(a, 8)), ("y", y == const(b, 8))]
        truth = FORMULAS[operator](const(a, 8), const(b, 8)).is_true()
        expected = Answer.UNSAT if truth else Answer.SAT
        assert answers(given, formula) == [expected, expected], (a, b)


@pytest.mark.parametrize("operator", ["__sub__", "__floordiv__", "__mod__"])
def test_operators_that_are_not_associative_group_to_the_left(operator):
    x, y, z = (var(name, 8) for name in ("x8", "y8", "z8"))
    chained = TERMS[operator](TERMS[operator](x, y), z)
    given = [("x", x == 200), ("y", y == 7), ("z", z == 3)]
    folded = TERMS[operator](TERMS[operator](const(200, 8), const(7, 8)), const(3, 8))
    assert answers(given, chained == folded) == [Answer.UNSAT, Answer.UNSAT]


@pytest.mark.parametrize(
    "term", [claripy.SDiv(var("x"), var("y")), claripy.RotateLeft(var("x"), var("y")), var("x").reversed]
)
def test_operator_without_a_translation_is_refused(term):
    with pytest.raises(UnsupportedError, match="claripy operation"):
        script([], term == 0)


def test_hypotheses_that_imply_the_goal_give_unsat_only_with_all_of_them():
    x, y, z = (var(name) for name in "xyz")
    given = [("first", claripy.ULT(x, y)), ("second", claripy.ULT(y, z))]
    assert answers(given, claripy.ULT(x, z)) == [Answer.UNSAT, Answer.UNSAT]
    for alone in given:
        assert answers([alone], claripy.ULT(x, z)) == [Answer.SAT, Answer.SAT]


def test_constants_are_printed_as_truth_values():
    assert answers([], TRUE) == [Answer.UNSAT, Answer.UNSAT]
    assert answers([], FALSE) == [Answer.SAT, Answer.SAT]
    assert answers([("never", FALSE)], FALSE) == [Answer.UNSAT, Answer.UNSAT]


def test_applications_are_consistent_to_both_solvers():
    f, g, x, y = Function("smtlib-f"), Function("smtlib-g", 1), var("x"), var("y")
    given = [("equal", x + 8 == y)]
    assert answers(given, And(f(x + 8) == f(y), g(f(y)) == g(f(x + 8)))) == [Answer.UNSAT] * 2
    assert answers(given, f(x) == f(y)) == [Answer.SAT] * 2


def test_labels_are_names_whatever_they_hold():
    given = [('a turn: b.ne (at 0x1000) -> #1; "x"', var("x") == 0), ("same", TRUE), ("same", TRUE)]
    assert answers(given, var("x") == 0) == [Answer.UNSAT] * 2


def test_comments_do_not_change_the_query():
    x = var("x")
    text = script([("h", x == 1)], x == 1, ["what", "(assert false)"])
    assert text.startswith("; what\n; (assert false)\n")
    assert [ask(text).answer for ask in SOLVERS] == [Answer.UNSAT] * 2
    text = script([], x == 1, ["(assert false)"])
    assert [ask(text).answer for ask in SOLVERS] == [Answer.SAT] * 2


def test_shared_terms_are_printed_once():
    term = var("x")
    for number in range(100):
        term = If(claripy.ULT(term, number), term + 1, term - 1)
    assert len(script([], term == 0)) < 30_000


def query() -> str:
    f, x, y = Function("smtlib-f"), var("x"), var("y")
    inner = If(x == y, f(x), f(y + 8))
    return script([("h", f(inner) == f(x))], Not(f(f(y)) == f(x)))


def with_earlier_applications(monkeypatch, count: int, ask) -> str:
    with monkeypatch.context() as patch:
        patch.setattr(logic, "_INTERNED", {})
        patch.setattr(logic, "_APPLICATIONS", {})
        for number in range(count):
            Function("earlier")(number)
        return ask()


@pytest.mark.parametrize("count", [1, 7, 8, 9, 98, 99])
def test_text_does_not_depend_on_earlier_applications(monkeypatch, count):
    texts = [with_earlier_applications(monkeypatch, n, query) for n in (0, count)]
    assert texts[0] == texts[1]
    assert "@" not in texts[0]


def test_sum_of_applications_does_not_depend_on_earlier_applications(monkeypatch):
    def ask() -> str:
        f, x, y = Function("smtlib-f"), var("x"), var("y")
        return script([], normal(f(x) + f(y) + 1) == y)

    assert len({with_earlier_applications(monkeypatch, n, ask) for n in range(12)}) == 1


def test_two_queries_are_two_texts():
    x = var("x")
    texts = {script([], x == 1), script([], x == 2), script([("h", x == 1)], x == 2)}
    assert len(texts) == 3
