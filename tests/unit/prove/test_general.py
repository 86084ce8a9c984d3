"""Queries for any address: what follows for other addresses, and what does not."""

from __future__ import annotations

import pytest
from kexec_verify.cache.answers import Answers
from kexec_verify.cache.store import Cache
from kexec_verify.logic import And, Function, const, var
from kexec_verify.prove import solvers
from kexec_verify.prove.general import General, filter_by, generalise, is_answered, settle
from kexec_verify.prove.model_check import is_model
from kexec_verify.prove.queries import Queries
from kexec_verify.prove.smtlib import script
from kexec_verify.prove.solvers import Answer, ask_bitwuzla, leaves

LOW = 0xFFFF_8000_0800_0000
IMAGE = range(LOW, LOW + (1 << 28))
X = var("x")
MEMORY = Function("M")


def query(formula, *addresses) -> General:
    """Whether ``formula`` of these addresses can hold."""
    return generalise(script((("h", formula(*map(const, addresses))),), const(0) == 1), IMAGE)


def holds_where_equal(a, b):
    return And(a == X, b == X)


def holds_where_apart(a, b):
    return And(MEMORY(a) == X, MEMORY(b) == X + 1)


def never_holds(a):
    return And(MEMORY(a) == X, MEMORY(a) == X + 1)


def on_a_page(address: int) -> General:
    """Whether x is the word at an address that is a multiple of 4096."""
    text = f"""(set-logic QF_UFBV)
(declare-fun |x| () (_ BitVec 64))
(declare-fun |M| ((_ BitVec 64)) (_ BitVec 64))
(define-fun t0 () (_ BitVec 64) (|M| (_ bv{address} 64)))
(define-fun t1 () Bool (= t0 |x|))
(define-fun t2 () (_ BitVec 12) ((_ extract 11 0) (_ bv{address} 64)))
(define-fun t3 () Bool (= t2 (_ bv0 12)))
(assert (! t1 :named |0:h|))
(assert (! t3 :named |1:h|))
(check-sat)
"""
    return generalise(text, IMAGE)


def test_only_addresses_of_the_image_become_symbols_and_come_back():
    text = script((("(_ bv1 64)", const(LOW + 8) == X),), MEMORY(const(LOW - 8)) == const(LOW + 8))
    found = generalise(text, IMAGE)
    assert found.addresses == (LOW + 8,)
    assert str(LOW + 8) not in found.text and str(LOW - 8) in found.text
    assert found.exact == text


def test_a_constant_in_a_symbol_is_none():
    text = script((), var(f"a (_ bv{LOW} 64)") == const(LOW))
    found = generalise(text, IMAGE)
    assert found.addresses == (LOW,) and found.exact == text
    assert f"|a (_ bv{LOW} 64)|" in found.text


def test_a_text_that_has_such_symbols_is_left():
    text = script((), var("address 0") == const(LOW))
    assert generalise(text, IMAGE) == General(text)


def test_without_an_image_nothing_changes():
    text = script((), const(LOW) == X)
    assert generalise(text, range(0)) == General(text)


def test_what_is_unsat_for_any_address_answers_for_another():
    for ask in (settle, filter_by):
        for_any, replies = ask(query(never_holds, LOW), 5.0, 0)
        assert for_any and is_answered(query(never_holds, LOW + 64), replies)


@pytest.mark.parametrize("ask", [settle, filter_by])
def test_what_is_unsat_for_some_addresses_answers_for_these_alone(ask):
    """Equal addresses make it sat, so the general query is sat."""
    for_any, replies = ask(query(holds_where_equal, LOW, LOW + 8), 5.0, 0)
    assert not for_any
    assert {reply.answer for reply in replies} == {Answer.UNSAT}


def test_a_general_query_that_is_sat_refutes_nothing():
    """The goal follows from these addresses, and not from all."""
    asked = generalise(script((("h", const(LOW) == X),), const(LOW + 8) != X), IMAGE)
    assert ask_bitwuzla(asked.text).answer is Answer.SAT
    for_any, replies = settle(asked, 5.0, 0)
    assert not for_any and {reply.answer for reply in replies} == {Answer.UNSAT}


def test_sat_answers_for_other_addresses_only_with_a_model_for_them():
    for_any, replies = filter_by(on_a_page(LOW), 5.0, 0)
    assert for_any and replies[0].answer is Answer.SAT
    assert is_answered(on_a_page(LOW + 0x1000), replies)
    # The general query is the same one and sat, but the hypotheses contradict each other here.
    assert on_a_page(LOW + 8).text == on_a_page(LOW).text
    assert not is_answered(on_a_page(LOW + 8), replies)


def test_a_model_gives_equal_arguments_equal_values():
    """With two addresses that become one a function would have two values."""
    asked = query(holds_where_apart, LOW, LOW + 8)
    for_any, replies = filter_by(asked, 5.0, 0)
    assert for_any and is_answered(query(holds_where_apart, LOW + 16, LOW + 64), replies)
    assert not is_answered(General(asked.text, (LOW, LOW)), replies)


def test_a_model_that_is_none_is_refused():
    asked = on_a_page(LOW)
    (reply,) = filter_by(asked, 5.0, 0)[1]
    assert reply.model is not None and is_model(asked.text, reply.model, {})
    names = leaves(asked.text)
    assert len(names) == len(reply.model)
    changed, large = tuple(value ^ 1 for value in reply.model), (1 << 64,) * len(names)
    for wrong in (reply.model[:-1], (*reply.model, 0), changed, large):
        assert not is_model(asked.text, wrong, {})
    assert not is_model("(check-sat", (), {})


def test_a_settled_sat_query_is_never_reused_for_other_addresses():
    asked = on_a_page(LOW)
    for_any, replies = settle(asked, 5.0, 0)
    assert not for_any and replies[0].answer is Answer.SAT
    assert not is_answered(asked, replies)


def test_a_build_at_other_addresses_reuses_answers(tmp_path, monkeypatch):
    def ask(base: int):
        cache = Cache(tmp_path, b"key")
        queries = Queries(store=Answers(cache))
        queries.image = range(base, base + 0x10000)
        proof = script((("h", MEMORY(const(base + 8)) == X),), MEMORY(const(base + 8)) + 1 == X + 1)
        partly = script((("h", const(base + 8) == X),), const(base + 16) != X)
        path = script((("h", MEMORY(const(base + 8)) == X),), const(0) == 1)
        found = [queries.settle(proof)(), queries.settle(partly)(), queries.filter_by(path)()]
        cache.close()
        return [replies[-1].answer for replies in found], queries.asked, queries.reused

    wanted = [Answer.UNSAT, Answer.UNSAT, Answer.SAT]
    assert ask(LOW) == (wanted, 3, 0)
    # What depends on the addresses is asked again, the rest is not.
    assert ask(LOW + 0x100000) == (wanted, 1, 2)

    def gone(*_args, **_more):
        raise AssertionError

    monkeypatch.setattr(solvers, "ask_bitwuzla", gone)
    assert ask(LOW) == (wanted, 0, 3)
