"""Answers of the solvers, and what they say when they have none."""

from __future__ import annotations

import re

import pytest

from verify.errors import InternalError
from verify.logic import And, ult, var
from verify.prove.smtlib import script
from verify.prove.solvers import Answer, ask_bitwuzla, ask_z3, bitwuzla_version, z3_version

SOLVERS = [ask_z3, ask_bitwuzla]

P, Q = var("p", 128), var("q", 128)
# The factors of a product of two primes of 62 bits: too hard for a tenth of a second.
FACTORS = And(P * Q == 0x2876A25E206F5C67 * 0x3A8DD4E45C76F18B, ult(1, P), ult(P, Q), ult(Q, 1 << 62))


@pytest.mark.parametrize("ask", SOLVERS)
def test_answers(ask):
    x = var("x")
    assert ask(script([], x == x + 1)).answer is Answer.SAT
    assert ask(script([("h", x == 3)], x + 1 == 4)).answer is Answer.UNSAT


@pytest.mark.parametrize("ask", SOLVERS)
def test_question_without_an_answer_in_time_is_unknown(ask):
    reply = ask(script([("hard", FACTORS)], P == 0), limit=0.1)
    assert reply.answer is Answer.UNKNOWN
    assert reply.seconds < 5


@pytest.mark.parametrize("ask", SOLVERS)
@pytest.mark.parametrize("text", ["(assert", "(assert (bvadd x y))", "(declare-fun x () Thing)"])
def test_unreadable_text_is_the_tools_fault(ask, text):
    with pytest.raises(InternalError, match="cannot read an obligation"):
        ask(f"(set-logic QF_UFBV)\n{text}\n(check-sat)\n")


@pytest.mark.parametrize("ask", SOLVERS)
def test_reply_names_its_solver_and_its_time(ask):
    reply = ask(script([], var("x") == 0))
    assert reply.solver in ask.__name__
    assert 0 < reply.seconds < 5


def test_versions_name_the_solvers():
    assert re.fullmatch(r"z3 \d+\.\d+.*", z3_version())
    assert re.fullmatch(r"bitwuzla \d+\.\d+.*", bitwuzla_version())
