"""An answer is that of the very same question, solver and version, or none."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import replace

import msgspec
import pytest
from kexec_verify.cache import answers as module
from kexec_verify.cache.answers import KIND, Answers, decode_answer
from kexec_verify.cache.check import check_cache
from kexec_verify.cache.store import Cache
from kexec_verify.prove.solvers import Answer, Reply

KEY = b"k" * 32
TEXT = "(set-logic QF_BV)\n(assert (! false :named |goal|))\n(check-sat)\n"
Z3, BITWUZLA = Reply("z3", Answer.UNSAT, 0.25), Reply("bitwuzla", Answer.UNSAT, 0.25, (0,))
BOTH = (Z3, BITWUZLA)
GAVE_UP = Reply("bitwuzla", Answer.UNKNOWN, 20.0)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path, KEY)


def keep(cache, *replies, kind="settle", seed=0):
    Answers(cache).keep(kind, TEXT, seed, replies or BOTH)


def test_answers_are_found_with_core_and_times(cache):
    keep(cache)
    assert Answers(cache).find("settle", TEXT, 0) == BOTH


@pytest.mark.parametrize("query", [("filter_by", TEXT, 0), ("settle", TEXT + " ", 0), ("settle", TEXT, 1)])
def test_answer_to_another_query_is_none(cache, query):
    keep(cache)
    assert Answers(cache).find(*query) is None


@pytest.mark.parametrize("solver", ["z3_version", "bitwuzla_version"])
def test_answer_of_another_version_is_none(cache, monkeypatch, solver):
    keep(cache)
    monkeypatch.setattr(module, solver, lambda: "another")
    assert Answers(cache).find("settle", TEXT, 0) is None


@pytest.mark.parametrize("replies", [(Reply("z3", Answer.UNKNOWN, 20.0), BITWUZLA), (GAVE_UP,)])
def test_that_a_solver_gave_up_is_not_kept(cache, replies):
    keep(cache, *replies)
    assert Answers(cache).find("settle", TEXT, 0) is None


def test_recheck_finds_nothing_and_keeps_what_is_found_again(cache):
    keep(cache)
    again = Answers(cache, recheck=True)
    assert again.find("settle", TEXT, 0) is None
    again.keep("settle", TEXT, 0, (Z3, replace(BITWUZLA, seconds=0.5)))
    found = Answers(cache).find("settle", TEXT, 0)
    assert found is not None and found[1].seconds == 0.5


@pytest.mark.parametrize(
    "change",
    [
        {"text": "another"},
        {"kind": "filter_by"},
        {"kind": "none"},
        {"seed": 3},
        {"replies": []},
        {"replies": "x"},
    ],
)
def test_sealed_value_that_is_no_answer_to_the_query_is_none(cache, change):
    """A seal says who wrote a value; that it answers the question is looked at all the same."""
    keep(cache)
    (key,) = (key for kind, key in cache._pending)
    value = msgspec.json.decode(zlib.decompress(cache._pending[KIND, key]))
    cache.keep(KIND, key, zlib.compress(msgspec.json.encode(value | change)))
    assert Answers(cache).find("settle", TEXT, 0) is None


def test_garbage_is_no_answer():
    assert decode_answer(b"garbage") is None
    assert decode_answer(zlib.compress(b"garbage")) is None


def test_check_asks_again_and_drops_a_wrong_answer(cache):
    keep(cache)
    keep(cache, replace(BITWUZLA, answer=Answer.SAT, core=None), kind="filter_by")
    cache._write()
    assert check_cache(cache, solve=False).dropped == 0
    found = check_cache(cache, solve=True)
    assert (found.solved, found.dropped, len(found.contradicted)) == (2, 1, 1)
    assert Answers(cache).find("filter_by", TEXT, 0) is None
    assert Answers(cache).find("settle", TEXT, 0) == BOTH


def test_check_drops_what_has_no_true_seal(tmp_path, cache):
    keep(cache)
    cache.close()
    other = Cache(tmp_path, b"o" * 32)
    found = check_cache(other, solve=False)
    assert (found.values, found.dropped) == (1, 1)
    assert check_cache(other, solve=False).values == 0


def test_models_are_found_by_their_key_and_not_if_they_were_changed(cache):
    model = {"x0@f": (1 << 64) - 1, "value 3": 0}
    Answers(cache).keep_model("key", model)
    Answers(cache).keep_model("wide", {"x": 1 << 64})
    assert Answers(cache).find_model("key") == model
    assert Answers(cache).find_model("wide") is None and Answers(cache).find_model("other") is None
    assert Answers(cache, recheck=True).find_model("key") is None
    cache.keep(module.MODEL, hashlib.sha256(b"key").digest(), b"not a model")
    assert Answers(cache).find_model("key") is None
