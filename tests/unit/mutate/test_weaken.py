"""A weaker hypothesis follows from the one it is made of, and does not imply it."""

import pytest
from kexec_verify.logic import And, Implies, Not, aligned, const, ule, ult, var, within
from kexec_verify.mutate.weaken import BIT, BOUND, weaker
from kexec_verify.prove.discharge import decide

X, Y = var("x"), var("y")
CASES = {
    "bound": (ule(X, const(9)), {BOUND}),
    "strict bound": (ult(X, const(9)), {BOUND}),
    "bound below": (ule(const(9), X), {BOUND}),
    "strict order": (ult(X, Y), {BOUND}),
    "order": (ule(X, Y), {BOUND}),
    "range": (within(X, Y, 16), {BOUND}),
    "alignment": (aligned(X, 4096), {BIT}),
    "masked bits": ((X & 0x3C0) == 0x3C0, {BIT}),
    "conjunction": (And(ule(X, const(9)), aligned(Y, 8)), {BOUND, BIT}),
    "implication": (Implies(X == Y, ule(X, const(9))), {BOUND}),
    "negation": (Not(X == Y), set()),
    "equation": (X == Y, set()),
    "no smaller alignment": (aligned(X, 2), set()),
}


@pytest.mark.parametrize("case", CASES)
def test_weaker_formula_follows_and_does_not_imply(case):
    formula, kinds = CASES[case]
    found = list(weaker(formula))
    assert {how for how, _ in found} == kinds
    for _, weak in found:
        assert decide((("the formula", formula),), weak)
        assert not decide((("the weaker one", weak),), formula)
