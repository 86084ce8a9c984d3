"""An answer is that of the very same question, solver and version, or none."""

from __future__ import annotations

import zlib

import msgspec
import pytest

from verify.cache import answers as module
from verify.cache.answers import KIND, Answers, decode_answer
from verify.cache.check import check_cache
from verify.cache.store import Cache
from verify.prove.solvers import Answer, Reply

KEY = b"k" * 32
TEXT = "(set-logic QF_BV)\n(assert (! false :named |goal|))\n(check-sat)\n"
UNSAT = Reply("z3", Answer.UNSAT, 0.25, (0,))


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path, KEY)


def test_answer_is_found_with_its_core_and_time(cache):
    Answers(cache).keep(TEXT, 0, UNSAT)
    assert Answers(cache).find("z3", TEXT, 0) == UNSAT


@pytest.mark.parametrize("question", [("bitwuzla", TEXT, 0), ("z3", TEXT + " ", 0), ("z3", TEXT, 1)])
def test_answer_to_another_question_is_none(cache, question):
    Answers(cache).keep(TEXT, 0, UNSAT)
    assert Answers(cache).find(*question) is None


def test_answer_of_another_version_is_none(cache, monkeypatch):
    Answers(cache).keep(TEXT, 0, UNSAT)
    monkeypatch.setitem(module._VERSIONS, "z3", lambda: "z3 0.0")
    assert Answers(cache).find("z3", TEXT, 0) is None


def test_that_a_solver_gave_up_is_not_kept(cache):
    Answers(cache).keep(TEXT, 0, Reply("z3", Answer.UNKNOWN, 20.0))
    assert Answers(cache).find("z3", TEXT, 0) is None


def test_recheck_finds_nothing_and_keeps_what_is_found_again(cache):
    Answers(cache).keep(TEXT, 0, UNSAT)
    again = Answers(cache, recheck=True)
    assert again.find("z3", TEXT, 0) is None
    again.keep(TEXT, 0, Reply("z3", Answer.UNSAT, 0.5, (0,)))
    found = Answers(cache).find("z3", TEXT, 0)
    assert found is not None and found.seconds == 0.5


@pytest.mark.parametrize(
    "change", [{"text": "another"}, {"solver": "bitwuzla"}, {"seed": 3}, {"answer": "unknown"}, {"core": "x"}]
)
def test_sealed_value_that_is_no_answer_to_the_question_is_none(cache, change):
    """A seal says who wrote a value; that it answers the question is looked at all the same."""
    answers = Answers(cache)
    answers.keep(TEXT, 0, UNSAT)
    (key,) = (key for kind, key in cache._pending)
    value = msgspec.json.decode(zlib.decompress(cache._pending[KIND, key]))
    cache.keep(KIND, key, zlib.compress(msgspec.json.encode(value | change)))
    assert answers.find("z3", TEXT, 0) is None


def test_garbage_is_no_answer():
    assert decode_answer(b"garbage") is None
    assert decode_answer(zlib.compress(b"garbage")) is None


def test_check_asks_again_and_drops_a_wrong_answer(cache):
    Answers(cache).keep(TEXT, 0, UNSAT)
    Answers(cache).keep(TEXT, 0, Reply("bitwuzla", Answer.SAT, 0.1))
    cache._write()
    assert check_cache(cache, solve=False).dropped == 0
    found = check_cache(cache, solve=True)
    assert (found.solved, found.dropped, len(found.contradicted)) == (2, 1, 1)
    assert Answers(cache).find("bitwuzla", TEXT, 0) is None
    assert Answers(cache).find("z3", TEXT, 0) == UNSAT


def test_check_drops_what_has_no_true_seal(tmp_path, cache):
    Answers(cache).keep(TEXT, 0, UNSAT)
    cache.close()
    other = Cache(tmp_path, b"o" * 32)
    found = check_cache(other, solve=False)
    assert (found.values, found.dropped) == (1, 1)
    assert check_cache(other, solve=False).values == 0
