"""Answers of the solvers, and what they say when they have none."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import time

import pytest
from kexec_verify.errors import InternalError
from kexec_verify.logic import And, ult, var
from kexec_verify.prove import solvers
from kexec_verify.prove.smtlib import script
from kexec_verify.prove.solvers import Answer, ask_bitwuzla, ask_z3, bitwuzla_version, z3_version

SOLVERS = [ask_z3, ask_bitwuzla]

P, Q = var("p", 128), var("q", 128)
# The factors of a product of two primes of 62 bits: too hard for a tenth of a second.
FACTORS = And(P * Q == 0x2876A25E206F5C67 * 0x3A8DD4E45C76F18B, ult(1, P), ult(P, Q), ult(Q, 1 << 62))
# A prime is no product of two factors of 14 bits: half a second of work for either solver.
PRIME = script([("product", And(P * Q == 134217757, ult(1, P), ult(P, 1 << 14), ult(Q, 1 << 14)))], P == 0)
LIMIT = 4.0


@pytest.mark.parametrize("ask", SOLVERS)
def test_answers(ask):
    x = var("x")
    assert ask(script([], x == x + 1)).answer is Answer.SAT
    assert ask(script([("h", x == 3)], x + 1 == 4)).answer is Answer.UNSAT


@pytest.mark.parametrize("ask", SOLVERS)
def test_query_without_an_answer_in_time_is_unknown(ask):
    reply = ask(script([("hard", FACTORS)], P == 0), limit=0.1)
    assert reply.answer is Answer.UNKNOWN
    assert reply.seconds < 5


def _answer(name, pipe) -> None:
    ask = getattr(solvers, name)
    ask(script([], P == Q))  # what is loaded at first use is loaded
    pipe.send("ready")
    pipe.send(ask(PRIME, limit=LIMIT).answer)


@pytest.mark.parametrize("ask", SOLVERS)
def test_a_machine_that_does_other_things_changes_no_answer(ask):
    """A process that gets no CPU for longer than the limit, as on a crowded machine, answers all the same."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(ask.__name__, theirs), daemon=True)
    process.start()
    assert process.pid is not None and ours.recv() == "ready"
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGSTOP)
    assert not ours.poll(1.5 * LIMIT), "it was answered before the process was stopped: the test says nothing"
    os.kill(process.pid, signal.SIGCONT)
    assert ours.recv() is Answer.UNSAT
    process.join()


@pytest.mark.parametrize("ask", SOLVERS)
def test_the_clock_has_no_say(ask, monkeypatch):
    """Each look at a clock finds that an hour has passed."""
    hours = iter(range(0, 1 << 40, 3600))
    for clock in ("monotonic", "perf_counter", "time"):
        monkeypatch.setattr(time, clock, lambda: float(next(hours)))
    assert ask(PRIME, limit=LIMIT).answer is Answer.UNSAT


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
