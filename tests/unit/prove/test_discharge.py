"""A proof counts only when both solvers say unsat, and says nothing from a contradiction."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from kexec_verify.errors import InternalError
from kexec_verify.logic import FALSE, TRUE, ult, var
from kexec_verify.obligation import Obligation
from kexec_verify.prove import solvers
from kexec_verify.prove.discharge import Discharger, decide, vacuous
from kexec_verify.prove.smtlib import script
from kexec_verify.prove.solvers import Answer, Reply
from kexec_verify.verdict import Verdict

X, Y = var("x"), var("y")


def required(goal, *hypotheses, name="example") -> Obligation:
    return Obligation(name, "an example", tuple((f"h{i}", h) for i, h in enumerate(hypotheses)), goal)


def verdict(obligation: Obligation) -> Verdict:
    (result,) = Discharger().discharge([obligation])
    return result.verdict


@pytest.fixture
def solvers_say(monkeypatch):
    def say(first: Answer, second: Answer) -> list[str]:
        asked: list[str] = []

        def ask(solver: str, answer: Answer):
            def reply(text: str, *limits: float) -> Reply:
                asked.append(solver)
                return Reply(solver, answer, 0.0)

            return reply

        monkeypatch.setattr(solvers, "ask_z3", ask("z3", first))
        monkeypatch.setattr(solvers, "ask_bitwuzla", ask("bitwuzla", second))
        return asked

    return say


def test_what_follows_is_proved():
    assert verdict(required(ult(X, Y + 1), X == Y, ult(Y, 9))) is Verdict.PROVED


def test_what_does_not_follow_is_unknown_and_never_refuted():
    assert verdict(required(ult(X, Y + 1), X == Y)) is Verdict.UNKNOWN


def test_plainly_true_goal_is_asked_of_both_solvers_too():
    (result,) = Discharger().discharge([required(TRUE)])
    assert result.verdict is Verdict.PROVED
    assert {reply.solver for reply in result.replies} == {"z3", "bitwuzla"}


def test_false_goal_without_hypotheses_is_not_proved():
    assert verdict(required(FALSE)) is Verdict.UNKNOWN


@pytest.mark.parametrize("first, second", list(itertools.product(Answer, Answer)))
def test_proved_takes_unsat_from_both(solvers_say, first, second):
    solvers_say(first, second)
    if (first, second) == (Answer.SAT, Answer.UNSAT):
        with pytest.raises(InternalError, match="contradict each other on example"):
            verdict(required(X == Y))
        return
    expected = Verdict.PROVED if first is second is Answer.UNSAT else Verdict.UNKNOWN
    assert verdict(required(X == Y)) is expected


def test_first_solver_is_not_asked_where_the_second_found_a_model(solvers_say):
    asked = solvers_say(Answer.UNSAT, Answer.SAT)
    assert verdict(required(X == Y)) is Verdict.UNKNOWN
    assert asked == ["bitwuzla"]


def test_no_time_means_no_proof():
    p, q = var("p", 128), var("q", 128)
    product = 0x2876A25E206F5C67 * 0x3A8DD4E45C76F18B
    hard = required(p * q != product, ult(1, p), ult(p, q), ult(q, 1 << 62))
    (result,) = Discharger(limit=0.05).discharge([hard])
    assert result.verdict is Verdict.UNKNOWN
    assert {reply.answer for reply in result.replies} == {Answer.UNKNOWN}


def test_contradicting_hypotheses_are_idle():
    live, idle = Discharger().discharge([required(X == 1, X == 1), required(X == 2, X == 1, X == 3)])
    assert (live.idle, live.verdict) == (False, Verdict.PROVED)
    assert (idle.idle, idle.verdict) == (True, Verdict.PROVED)


def test_without_hypotheses_nothing_is_idle():
    (result,) = Discharger().discharge([required(X == X + 0)])
    assert not result.idle


@pytest.mark.parametrize("answer", [Answer.UNKNOWN, Answer.UNSAT])
def test_hypotheses_not_known_to_hold_together_count_as_idle(solvers_say, answer):
    solvers_say(answer, answer)
    (result,) = Discharger().discharge([required(X == 1, X == 1)])
    assert result.idle


def test_vacuous_names_kinds_of_which_every_instance_is_idle():
    contradiction = (X == 1, X == 3)
    results = Discharger().discharge(
        [
            required(X == 2, *contradiction, name="never"),
            required(X == 4, *contradiction, name="never"),
            required(X == 2, *contradiction, name="sometimes"),
            required(X == 1, X == 1, name="sometimes"),
            required(TRUE, name="always"),
        ]
    )
    assert vacuous(results) == ["never"]


def test_equal_queries_are_asked_once(solvers_say):
    asked = solvers_say(Answer.UNSAT, Answer.UNSAT)
    results = Discharger().discharge([required(X == Y, name="one"), required(X == Y, name="two")])
    assert [result.obligation.name for result in results] == ["one", "two"]
    assert asked.count("z3") == 1


def test_different_queries_are_never_shared():
    discharger = Discharger()
    first, second = discharger.discharge([required(X == 1, X == 1), required(X == 2, X == 1)])
    assert (first.verdict, second.verdict) == (Verdict.PROVED, Verdict.UNKNOWN)
    (third,) = discharger.discharge([required(X == 2)])
    assert third.verdict is Verdict.UNKNOWN


def test_result_carries_its_text_and_hash():
    obligation = required(X == 1, X == 1)
    (result,) = Discharger().discharge([obligation])
    assert result.text == script(obligation.hypotheses, obligation.goal)
    assert result.digest == hashlib.sha256(result.text.encode()).hexdigest()
    assert result.seconds == sum(reply.seconds for reply in result.replies)


def test_progress_hears_of_each_obligation():
    heard: list[str] = []
    Discharger(progress=lambda obligation: heard.append(obligation.name)).discharge(
        [required(TRUE, name="a"), required(TRUE, name="b")]
    )
    assert heard == ["a", "b"]


def test_decide_says_yes_only_to_what_follows(solvers_say):
    facts = (("h", X == 1),)
    assert decide(facts, ult(X, 2))
    assert not decide(facts, ult(X, 1))
    solvers_say(Answer.UNKNOWN, Answer.UNKNOWN)
    assert not decide(facts, ult(X, 2))
