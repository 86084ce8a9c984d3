"""The evaluator of texts, against bitwuzla."""

from __future__ import annotations

import random

import pytest
from kexec_verify.prove.evaluate import compile_terms, evaluate
from kexec_verify.prove.read import read
from kexec_verify.prove.solvers import Answer, ask_bitwuzla

BINARY = [
    "bvadd",
    "bvsub",
    "bvmul",
    "bvand",
    "bvor",
    "bvxor",
    "bvshl",
    "bvlshr",
    "bvashr",
    "bvudiv",
    "bvurem",
]
COMPARE = ["=", "distinct", "bvult", "bvule", "bvugt", "bvuge", "bvslt", "bvsle", "bvsgt", "bvsge"]
OTHERS = {
    "(bvnot x)": 6,
    "(bvneg x)": 6,
    "((_ extract 4 2) x)": 3,
    "((_ zero_extend 3) x)": 9,
    "((_ sign_extend 3) x)": 9,
    "(concat x y)": 12,
    "(ite (and (bvult x y) (not (= x y))) x y)": 6,
    "(ite (or (bvult x y) (= x y)) x y)": 6,
}
CASES = {f"({op} x y)": 6 for op in BINARY} | OTHERS | {f"({op} x y)": 0 for op in COMPARE}
HEADER = "(set-logic QF_UFBV)(declare-fun x () (_ BitVec 6))(declare-fun y () (_ BitVec 6))"


@pytest.mark.parametrize("body", CASES)
def test_a_term_has_the_value_that_a_solver_finds(body):
    width = CASES[body]
    sort = f"(_ BitVec {width})" if width else "Bool"
    text = f"{HEADER}(define-fun t () {sort} {body})"
    script = read(text + "(check-sat)")
    rng = random.Random(body)
    for _ in range(4):
        x, y = (
            rng.choice((0, 1, 31, 32, 63, rng.getrandbits(6))),
            rng.choice((0, 5, 32, 63, rng.getrandbits(6))),
        )
        (value,) = evaluate(script, {"x": x, "y": y}, {}, [script.names["t"]])
        shown = f"(_ bv{value} {width})" if width else ("true" if value else "false")
        fixed = f"(assert (= x (_ bv{x} 6)))(assert (= y (_ bv{y} 6)))"
        query = f"{text}{fixed}(assert (distinct t {shown}))(check-sat)"
        assert ask_bitwuzla(query).answer is Answer.UNSAT, (x, y, value)


def test_functions_are_asked_for_their_values():
    text = "(declare-fun f ((_ BitVec 8)) (_ BitVec 8))(declare-fun x () (_ BitVec 8))"
    script = read(text + "(define-fun t () (_ BitVec 8) (bvadd (f x) (f (f x))))(check-sat)")
    run = compile_terms(script, [script.names["t"]])
    assert run({"x": 3}, {"f": lambda value: value * 2}) == (18,)
