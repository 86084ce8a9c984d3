"""Certificates: proofs are checked, and wrong ones are rejected."""

from __future__ import annotations

import random

import pytest
from kexec_verify.check import certify as module
from kexec_verify.check.bitblast import Cnf, bit_blast
from kexec_verify.check.certify import Status, certify, prove_unsatisfiable
from kexec_verify.check.rup import ProofError, check_proof, parse_proof
from kexec_verify.errors import LimitError
from kexec_verify.logic import And, Function, const, ult, var
from kexec_verify.prove.smtlib import script

# Two pigeons, one hole for each of three pairs: needs more than unit propagation.
XOR = [(1, 2), (-1, -2), (2, 3), (-2, -3), (1, 3), (-1, -3)]
XOR_PROOF = "1 0\n0\n"


@pytest.fixture
def cadical(require_tool) -> str:
    return require_tool("cadical", "cadical")


def query(claim: str = "") -> str:
    """That 3*(x+y) = 3*x + 3*y on 12 bits, which is not plain to a SAT solver."""
    x, y = var("x", 12), var("y", 12)
    sums = {"": 3 * x + 3 * y, "wrong": 3 * x + 2 * y}[claim]
    return script([("below", And(ult(x, const(2000, 12)), ult(y, x)))], (x + y) * 3 == sums)


def test_a_proof_of_a_small_formula_is_checked():
    assert check_proof(3, XOR, XOR_PROOF) == 1


@pytest.mark.parametrize(
    ("proof", "why"),
    [
        ("", "never reaches"),
        ("d 1 2 0\n", "never reaches"),
        ("0\n", "does not follow"),
        ("1 0", None),
        ("9 0\n0\n", "lacks"),
        ("1 2\n", "only 0"),
        ("1 0 0\n", "only 0"),
        ("one 0\n", "no step"),
        ("d 1 3 0\nd 2 3 0\n1 0\n0\n", "does not follow"),
    ],
)
def test_other_proofs_of_it_are_not(proof, why):
    if why is None:
        assert check_proof(3, XOR, proof) == 1
        return
    with pytest.raises(ProofError, match=why):
        check_proof(3, XOR, proof)


def test_a_right_proof_of_other_clauses_is_rejected():
    for left_out in range(len(XOR)):
        with pytest.raises(ProofError):
            check_proof(3, [clause for i, clause in enumerate(XOR) if i != left_out], XOR_PROOF)


def test_a_clause_and_its_copies_are_told_apart():
    assert parse_proof("d 2 -1 0\n3 0\n") == [(True, (2, -1)), (False, (3,))]
    assert check_proof(3, [*XOR, XOR[0]], f"d {XOR[0][0]} {XOR[0][1]} 0\n{XOR_PROOF}") == 1


def test_satisfiable_clauses_have_no_proof_that_passes(cadical):
    """Random formulas: whatever is offered as a proof, only unsatisfiable ones pass."""
    rng = random.Random(5)
    passed = 0
    for _ in range(60):
        clauses = [
            tuple(rng.choice((1, -1)) * v for v in rng.sample(range(1, 9), 3))
            for _ in range(rng.randrange(20, 60))
        ]
        satisfiable = any(
            all(any((bits >> abs(x) - 1 & 1) == (x > 0) for x in clause) for clause in clauses)
            for bits in range(256)
        )
        cnf = Cnf(8, tuple(clauses))
        if satisfiable:
            with pytest.raises(ProofError, match="satisfied"):
                prove_unsatisfiable(cnf)
            offered = "".join(f"{rng.choice((1, -1)) * v} 0\n" for v in rng.sample(range(1, 9), 8)) + "0\n"
            with pytest.raises(ProofError):
                check_proof(8, clauses, offered)
        else:
            check_proof(8, clauses, prove_unsatisfiable(cnf))
            passed += 1
    assert 10 < passed < 50


def test_a_valid_obligation_is_certified(cadical):
    found = certify(query())
    assert found.status is Status.CERTIFIED, found.reason
    assert found.steps > 10 and found.clauses > 500 and found.cnf and found.proof


def test_functions_are_within_reach(cadical):
    f, x, y = Function("f", 8), var("x"), var("y")
    assert certify(script([("same", x == y)], f(x) == f(y))).status is Status.CERTIFIED
    assert certify(script([], f(x) == f(y))).status is Status.REJECTED


def test_an_obligation_that_does_not_hold_is_not(cadical):
    found = certify(query("wrong"))
    assert (found.status, found.reason) == (Status.REJECTED, "the clauses can be satisfied")


def test_a_text_changed_to_be_satisfiable_is_not(cadical):
    lines = query().splitlines()
    kept = [line for line in lines if ":named |goal|" not in line]
    assert certify("\n".join(kept) + "\n").status is Status.REJECTED


def test_a_tampered_proof_is_rejected(cadical, monkeypatch):
    cnf = bit_blast(query())
    proof = prove_unsatisfiable(cnf)
    assert check_proof(cnf.variables, cnf.clauses, proof) > 10
    steps = proof.splitlines()
    flipped = [" ".join(str(-int(x)) for x in line.split()) for line in steps[:1]] + steps[1:]
    for broken in (flipped, steps[-1:], ["0"]):
        monkeypatch.setattr(module, "prove_unsatisfiable", lambda *_, b=broken: "\n".join(b) + "\n")
        found = certify(query())
        assert found.status is Status.REJECTED, broken[:1]


def test_the_proof_of_another_text_is_rejected(cadical, monkeypatch):
    proof = prove_unsatisfiable(bit_blast(query()))
    monkeypatch.setattr(module, "prove_unsatisfiable", lambda *_: proof)
    assert certify(query("wrong")).status is Status.REJECTED


def test_limits_and_missing_tools_are_named(monkeypatch):
    assert "more than 100 clauses" in certify(query(), clauses=100).reason
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    found = certify(query())
    assert found.status is Status.OUT_OF_REACH
    assert found.reason == "no cadical installed"
    assert module.solver_version() == ""


def test_a_text_that_is_not_understood_is_out_of_reach():
    assert certify("(set-logic ALL)(check-sat)").status is Status.OUT_OF_REACH


def test_a_deadline_is_kept():
    with pytest.raises(LimitError):
        check_proof(3, XOR, XOR_PROOF, deadline=0.0)
