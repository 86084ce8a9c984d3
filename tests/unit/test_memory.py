"""Memory layers against a dictionary of words, and the case split over stores."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import And, Function, Or, const, constant, same, var
from kexec_verify.memory import Memory, Unknown, cases
from kexec_verify.prove.smtlib import script
from kexec_verify.prove.solvers import Answer, ask_bitwuzla

WORDS = 48
X, Y, V = var("x"), var("y"), var("v")
A = var("a")


class Words(Memory):
    """Memory in which the word at each address is its address times 3."""

    def _read(self, address):
        return address * 3


def follows(goal, *hypotheses) -> bool:
    facts = [(f"h{i}", hypothesis) for i, hypothesis in enumerate(hypotheses)]
    return ask_bitwuzla(script(facts, goal)).answer is Answer.UNSAT


slots = st.integers(0, WORDS - 1)
operations = st.one_of(
    st.tuples(st.just("write"), slots, st.integers(0, 2**64 - 1)),
    st.tuples(st.just("copy"), slots, st.tuples(slots, st.integers(0, 12))),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(operations, max_size=8))
def test_layers_agree_with_a_dictionary(sequence):
    model = {8 * slot: 24 * slot for slot in range(-16, WORDS + 32)}
    memory: Memory = Words()
    for what, slot, operand in sequence:
        if what == "write":
            model[8 * slot] = operand
            memory = memory.write(const(8 * slot), const(operand))
        else:
            source, count = operand
            # All loads come before all stores: overlapping ranges copy what was there before.
            model |= {8 * (slot + i): model[8 * (source + i)] for i in range(count)}
            memory = memory.copy(const(8 * slot), const(8 * source), 8 * count)
    for slot in range(WORDS + 12):
        assert constant(memory.read(const(8 * slot))) == model[8 * slot] % 2**64


@settings(max_examples=60, deadline=None)
@given(slots, slots, st.integers(0, 12), st.integers(0, 2**64 - 1))
def test_copy_from_another_memory_ignores_later_writes(dest, source, count, value):
    origin = Words()
    memory = origin.write(const(8 * source), const(value)).copy(
        const(8 * dest), const(8 * source), 8 * count, origin
    )
    for i in range(count):
        assert constant(memory.read(const(8 * (dest + i)))) == 24 * (source + i)


def test_unknown_memory_is_a_function_of_the_address():
    memory = Unknown("memory")
    assert same(memory.read(X + Y - Y), memory.read(X))
    assert same(memory.read(X), Function("memory")(X))
    assert not same(Unknown("other").read(X), memory.read(X))


def test_write_is_read_back_and_leaves_its_base_alone():
    below = Unknown("memory")
    memory = below.write(X + 8, V)
    assert same(memory.read(8 + X), V)
    assert same(below.read(X + 8), Function("memory")(X + 8))


def test_read_beside_a_store_folds_to_what_was_below():
    memory = Unknown("memory").write(X, V)
    assert same(memory.read(X + 8), Function("memory")(X + 8))
    assert same(memory.read(X - 16), Function("memory")(X - 16))


@pytest.mark.parametrize("offset", [1, 4, 7, -1, -7])
def test_access_that_overlaps_a_word_in_part_is_unsupported(offset):
    with pytest.raises(UnsupportedError, match="overlaps another word in part"):
        Unknown("memory").write(X, V).read(X + offset)


def test_read_that_may_alias_a_store_is_decided_by_the_addresses():
    memory = Unknown("memory").write(X, V)
    assert follows(memory.read(Y) == V, X == Y)
    assert follows(memory.read(Y) == Function("memory")(Y), X != Y)
    assert not follows(memory.read(Y) == V)


def test_later_store_wins():
    memory = Unknown("memory").write(X, V).write(X, V + 1)
    assert same(memory.read(X), V + 1)
    aliased = Unknown("memory").write(X, V).write(Y, V + 1)
    assert follows(aliased.read(X) == V + 1, X == Y)


@pytest.mark.parametrize("length", [8, 4096])
def test_copy_ends_before_its_length(length):
    memory = Unknown("memory").copy(X, Y, length)
    assert follows(memory.read(X + length - 8) == Function("memory")(Y + length - 8))
    assert follows(memory.read(X + length) == Function("memory")(X + length))
    assert follows(memory.read(X - 8) == Function("memory")(X - 8))


def test_copy_across_the_top_of_memory_wraps():
    memory = Unknown("memory").copy(const(-8), Y, 16)
    assert follows(memory.read(const(0)) == Function("memory")(Y + 8))


def test_copy_of_nothing_changes_nothing():
    assert same(Unknown("memory").copy(X, Y, 0).read(A), Function("memory")(A))
    assert follows(Unknown("memory").copy(X, Y, V).read(A) == Function("memory")(A), V == 0)


def test_cases_cover_every_address():
    memory = Unknown("memory").write(X, V).write(X + 8, V).write(Y, V)
    split = cases(memory, A)
    assert len(split) == 4
    covered = [And(*(fact for _, fact in known)) if known else address == A for _, known, address in split]
    assert follows(Or(*covered))
    for index in range(len(covered)):
        assert not follows(Or(*covered[:index], *covered[index + 1 :])), split[index][0]


def test_each_case_asks_about_the_words_that_it_covers():
    memory = Unknown("memory").write(X, V).write(Y, V + 1)
    for _, known, address in cases(memory, A):
        facts = [fact for _, fact in known] or [address == A]
        assert follows(memory.read(address) == memory.read(A), *facts)


def test_cases_of_memory_without_stores_are_one():
    ((label, known, address),) = cases(Unknown("memory").copy(X, Y, 64), A)
    assert (label, known) == ("at any word", ())
    assert same(address, A)
