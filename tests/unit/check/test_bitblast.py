"""The bit-blaster, against the evaluator and the solvers."""

from __future__ import annotations

import itertools
import random

import pytest
from kexec_verify.check.bitblast import bit_blast
from kexec_verify.check.gates import FALSE, TRUE, Gates
from kexec_verify.check.rup import Checker
from kexec_verify.errors import LimitError
from kexec_verify.prove.evaluate import evaluate
from kexec_verify.prove.read import read

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
    "(bvnot x)": 5,
    "(bvneg x)": 5,
    "((_ extract 3 1) x)": 3,
    "((_ zero_extend 2) x)": 7,
    "((_ sign_extend 2) x)": 7,
    "(concat x y)": 10,
    "(ite (and (bvult x y) (not (= x y))) x (bvmul y y))": 5,
    "(ite (or (bvult x y) (= x y)) (bvsub x y) y)": 5,
    "(bvadd (f x) (f y))": 5,
    "(ite (= (f x) (f y)) x (f (bvadd x y)))": 5,
}
CASES = {f"({op} x y)": 5 for op in BINARY} | OTHERS | {f"({op} x y)": 0 for op in COMPARE}
WORD = "(_ BitVec 5)"
HEADER = f"(declare-fun x () {WORD})(declare-fun y () {WORD})(declare-fun f ({WORD}) {WORD})"


def refuted(text: str) -> bool:
    """The clauses of `text` meet a contradiction by unit propagation alone."""
    cnf = bit_blast(text + "(check-sat)")
    return Checker(cnf.variables, cnf.clauses).refuted


@pytest.mark.parametrize("body", CASES)
def test_gates_have_the_values_of_the_evaluator(body):
    width = CASES[body]
    sort = f"(_ BitVec {width})" if width else "Bool"
    text = f"{HEADER}(define-fun t () {sort} {body})"
    script = read(text + "(check-sat)")
    rng = random.Random(body)
    table = {value: rng.getrandbits(5) for value in range(32)}
    known = (
        "".join(f"(assert (= (f (_ bv{k} 5)) (_ bv{v} 5)))" for k, v in table.items())
        if "(f " in body
        else ""
    )
    for x, y in itertools.product((0, 1, 7, 16, 31, rng.getrandbits(5)), repeat=2):
        (value,) = evaluate(script, {"x": x, "y": y}, {"f": table.__getitem__}, [script.names["t"]])
        inputs = f"{text}{known}(assert (= x (_ bv{x} 5)))(assert (= y (_ bv{y} 5)))"
        shown = f"(_ bv{value} {width})" if width else ("true" if value else "false")
        # Inputs are variables that units fix, so each gate's clauses are at work, not constant folding.
        assert refuted(f"{inputs}(assert (distinct t {shown}))"), (x, y, value)
        assert not refuted(f"{inputs}(assert (= t {shown}))"), (x, y, value)


def test_functions_are_consistent():
    text = f"{HEADER}(assert (= x (_ bv9 5)))(assert (= (f x) (_ bv3 5)))(assert (distinct (f y) (_ bv3 5)))"
    assert refuted(f"{text}(assert (= y (_ bv9 5)))")
    assert not refuted(f"{text}(assert (= y (_ bv8 5)))")


def test_gates_fold_and_are_shared():
    gates = Gates()
    a, b, c = gates.inputs(3)
    assert gates.and_(a, TRUE) == a and gates.and_(a, FALSE) == FALSE and gates.and_(a, -a) == FALSE
    assert gates.and_(a, b) == gates.and_(b, a)
    assert gates.xor(a, b) == gates.xor(-b, -a) == -gates.xor(a, -b)
    assert gates.ite(c, a, b) == gates.ite(-c, b, a)
    assert gates.ite(c, a, -a) == -gates.xor(c, a)


@pytest.mark.parametrize("gate", ["and_", "or_", "xor", "ite"])
def test_clauses_of_a_gate_are_its_truth_table(gate):
    meaning = {
        "and_": lambda a, b: a and b,
        "or_": lambda a, b: a or b,
        "xor": lambda a, b: a != b,
        "ite": lambda a, b, c: b if a else c,
    }[gate]
    count = 3 if gate == "ite" else 2
    # Also with inputs that are equal or opposite, and constants.
    for pattern in itertools.product((1, 2, 3, -1, -2, 4, -4), repeat=count):
        gates = Gates()
        named = dict(zip((2, 3, 4), gates.inputs(3), strict=True))
        inputs = [p if abs(p) == 1 else (named[abs(p)] if p > 0 else -named[abs(p)]) for p in pattern]
        output = getattr(gates, gate)(*inputs)
        for values in itertools.product((False, True), repeat=3):
            fixed = [v if value else -v for v, value in zip(named.values(), values, strict=True)]
            truth = {TRUE: True, FALSE: False} | {f: True for f in fixed} | {-f: False for f in fixed}
            wanted = meaning(*(truth[i] for i in inputs))
            units = [(f,) for f in fixed]
            assert Checker(
                gates.variables, [*gates.clauses, *units, (-output if wanted else output,)]
            ).refuted
            assert not Checker(
                gates.variables, [*gates.clauses, *units, (output if wanted else -output,)]
            ).refuted


def test_a_limit_on_clauses_is_kept():
    with pytest.raises(LimitError, match="more than 10 clauses"):
        bit_blast(f"{HEADER}(assert (= (bvmul x y) (f x)))(check-sat)", 10)
