"""Line states as layers, against a cache of a few lines that is simulated word by word."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kexec_verify.arm64 import cache, system
from kexec_verify.arm64.cache import (
    CLEAN,
    DIRTY,
    LOST,
    PENDING,
    STALE,
    Changed,
    Cleaned,
    Completed,
    Invalidated,
    Maintained,
    Stored,
    Touched,
    stored,
)
from kexec_verify.logic import FALSE, TRUE, const, constant, same, ule, var
from kexec_verify.logic import replace as substitute
from kexec_verify.prove.smtlib import script
from kexec_verify.prove.solvers import Answer, ask_bitwuzla
from kexec_verify.symbolic.loops import generic_state
from kexec_verify.symbolic.objects import Object, Objects

BASE, WORDS = 0x8000, 64
ADDRESSES = [BASE + 8 * i for i in range(WORDS)]
STATES = {"clean": CLEAN, "pending": PENDING, "dirty": DIRTY, "lost": LOST}
VALUES = {name: constant(state) for name, state in STATES.items()}
NAMES = {value: name for name, value in VALUES.items()}


class Known:
    """Line states that are constants."""

    def __init__(self, states: dict[int, str]):
        self.states = states

    def read(self, address):
        return const(VALUES[self.states[constant(address)]], 2)


class Model:
    """The same, step by step: what is in the cache, what is on its way, what is lost."""

    def __init__(self, states: dict[int, str], line: int):
        self.states, self.line, self.cached = dict(states), line, True

    def switch(self, on: bool):
        self.cached = on

    def store(self, address: int):
        stays = not self.cached and self.states[address] == "clean"
        self.states[address] = "clean" if stays else "dirty"

    def maintain(self, operation: str, address: int):
        for word in self.states:
            if word // self.line != address // self.line or self.states[word] != "dirty":
                continue
            if operation == "ivac" and self.cached:
                self.states[word] = "lost"
            elif operation != "cvac" or self.cached:
                self.states[word] = "pending"

    def dsb(self):
        for word, state in self.states.items():
            self.states[word] = "clean" if state == "pending" else state


words = st.sampled_from(ADDRESSES)
steps = st.one_of(
    st.tuples(st.just("store"), words),
    st.tuples(st.sampled_from(["civac", "cvac", "ivac"]), st.integers(BASE, BASE + 8 * WORDS - 1)),
    st.tuples(st.just("dsb"), st.sampled_from([1, 2, 3])),
    st.tuples(st.just("switch"), st.booleans()),
)


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.sampled_from(list(VALUES)), min_size=WORDS, max_size=WORDS),
    st.integers(1, 5),
    st.lists(steps, max_size=10),
)
def test_layers_agree_with_a_cache_simulated_word_by_word(initial, log, sequence):
    first = dict(zip(ADDRESSES, initial, strict=True))
    model = Model(first, 4 << log)
    state = replace(generic_state().with_registers(sctlr_el1=const(5)), lines=Known(first))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "CTR_EL0", const(log << 16))
        for what, operand in sequence:
            match what:
                case "store":
                    model.store(operand)
                    state = system.store(state, const(operand), const(8))
                case "dsb":
                    if operand != 1:  # not the domain of this CPU alone
                        model.dsb()
                    state = system.dsb(state, (const(operand), const(3)), 0)
                case "switch":
                    model.switch(operand)
                    state = state.with_registers(sctlr_el1=const(5 if operand else 0))
                case _:
                    model.maintain(what, operand)
                    meaning = system.MEANING[f"DC_{what.upper()}"]
                    state = meaning(state, (const(operand),), 0)
        found = {address: NAMES[constant(state.lines.read(const(address)))] for address in ADDRESSES}
    assert found == model.states


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(0, 20), st.integers(2, 5), st.sampled_from(["civac", "cvac", "ivac"]))
def test_maintenance_of_a_range_is_that_of_each_line_in_it(first, count, log, operation):
    line = 4 << log
    start = BASE + 8 * first
    below = Known({address: "dirty" for address in ADDRESSES})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "CTR_EL0", const(log << 16))
        whole = Maintained(below, const(start), const(count * line), operation, TRUE)
        single = below
        for iteration in range(count):
            single = Maintained(single, const(start + iteration * line), None, operation, TRUE)
        for address in map(const, ADDRESSES):
            assert constant(whole.read(address)) == constant(single.read(address))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(words, st.sampled_from([8, 16, 24]), st.booleans()), max_size=6))
def test_merging_neighbouring_stores_changes_nothing(stores):
    merged = plain = Known({address: "clean" for address in ADDRESSES})
    for address, length, cacheable in stores:
        flag = TRUE if cacheable else FALSE
        merged = stored(merged, const(address), const(length), flag)
        plain = Stored(plain, const(address), const(length), flag)
    for address in map(const, ADDRESSES):
        assert constant(merged.read(address)) == constant(plain.read(address))


def test_neighbouring_stores_make_one_layer_and_others_do_not():
    below, x = Known({}), var("x")
    first = stored(below, x, const(8), TRUE)
    assert stored(first, x + 8, const(8), TRUE).below is below
    assert stored(first, x + 16, const(8), TRUE).below is first
    assert stored(first, x - 8, const(8), TRUE).below is first
    assert stored(first, x + 8, const(8), FALSE).below is first


@pytest.mark.parametrize("log", range(10))
def test_line_is_4_shifted_by_dminline(log):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "CTR_EL0", const(log << 16 | 0x8440_C004))
        assert constant(cache.line_size()) == 4 << log
        assert constant(cache.line(const(0x12345))) == 0x12345 // (4 << log) * (4 << log)


def test_line_of_any_size_holds_its_address():
    address = var("address")
    inside = ule(address - cache.line(address), cache.line_size() - 1)
    assert ask_bitwuzla(script([], inside)).answer is Answer.UNSAT


def states(layer) -> dict[int, str]:
    """Which words have which state, lines of instruction and data cache being 32 bytes."""
    sizes = const(3 << 16 | 3)
    found = {a: constant(substitute(layer.read(const(a)), cache.CTR_EL0, sizes)) for a in ADDRESSES}
    return {address: NAMES[value] for address, value in found.items()}


def all_of(state: str) -> Known:
    return Known(dict.fromkeys(ADDRESSES, state))


def words_in(found: dict[int, str], state: str) -> list[int]:
    return [(address - BASE) // 8 for address, other in found.items() if other == state]


def test_a_changed_word_is_stale_and_no_other():
    found = states(Changed(all_of("clean"), const(BASE + 16), const(24)))
    assert words_in(found, "dirty") == [2, 3, 4]
    assert same(STALE, DIRTY)


@pytest.mark.parametrize(
    ("start", "length", "words"),
    [(0, 1, [0]), (7, 1, [0]), (8, 1, [1]), (4, 8, [0, 1]), (12, 4, [1]), (15, 2, [1, 2]), (16, 8, [2])],
)
@pytest.mark.parametrize("cacheable", [TRUE, FALSE, None], ids=["cached", "uncached", "fetch"])
def test_a_store_of_a_part_touches_every_word_that_it_overlaps(start, length, words, cacheable):
    found = states(Touched(all_of("pending"), const(BASE + start), const(length), cacheable))
    assert words_in(found, "dirty") == words
    assert len(words_in(found, "pending")) == WORDS - len(words)


def test_a_store_of_a_part_brings_nothing_back_that_was_lost():
    found = states(Touched(all_of("lost"), const(BASE + 4), const(8), TRUE))
    assert set(found.values()) == {"lost"}


def test_an_uncached_store_of_a_part_keeps_a_clean_word_clean():
    found = states(Touched(all_of("clean"), const(BASE + 4), const(8), FALSE))
    assert set(found.values()) == {"clean"}


@pytest.mark.parametrize(
    ("before", "data", "reached"),
    [
        ("dirty", "clean", "pending"),
        ("dirty", "pending", "dirty"),
        ("dirty", "dirty", "dirty"),
        ("dirty", "lost", "dirty"),
        ("clean", "dirty", "clean"),
        ("pending", "clean", "pending"),
    ],
)
def test_an_invalidated_line_is_refetched_where_the_data_is_clean(before, data, reached):
    found = states(Invalidated(all_of(before), const(BASE + 40), None, all_of(data)))
    assert [found[BASE + 8 * word] for word in (4, 5, 6, 7)] == [reached] * 4
    assert [found[BASE + 8 * word] for word in (3, 8)] == [before] * 2


def test_lines_of_a_range_are_invalidated_from_the_first():
    found = states(Invalidated(all_of("dirty"), const(BASE + 40), const(64), all_of("clean")))
    assert words_in(found, "pending") == list(range(4, 12))


def test_a_store_after_the_invalidation_is_stale_again():
    layer = Invalidated(all_of("dirty"), const(BASE), None, all_of("clean"))
    found = states(Completed(Changed(layer, const(BASE + 8), const(8))))
    assert [word for word in words_in(found, "clean") if word < 4] == [0, 2, 3]


def test_cleaned_bytes_are_clean_but_for_what_was_lost():
    known = Known({a: ("lost", "dirty", "pending", "clean")[i % 4] for i, a in enumerate(ADDRESSES)})
    found = states(Cleaned(known, const(BASE + 16), const(BASE + 64), None))
    assert [found[a] for a in ADDRESSES[:10]] == [
        *("lost", "dirty"),
        *("clean", "clean", "lost", "clean", "clean", "clean"),
        *("lost", "dirty"),
    ]


def test_nothing_is_cleaned_of_an_empty_range():
    found = states(Cleaned(all_of("dirty"), const(BASE), const(BASE), None))
    assert set(found.values()) == {"dirty"}


def test_fetched_bytes_are_the_latest_only_where_the_data_is_clean():
    data = Known({a: "clean" if i % 2 else "dirty" for i, a in enumerate(ADDRESSES)})
    found = states(Cleaned(all_of("dirty"), const(BASE), const(BASE + 32), data))
    assert words_in(found, "clean") == [1, 3]


def test_a_byte_that_c_code_stores_makes_its_word_dirty():
    image = Objects((Object("it", None, BASE, BASE + 8 * WORDS),))
    state = replace(generic_state(), lines=all_of("clean"), fetch=all_of("clean"))
    state = state.with_registers(sctlr_el1=const(5))
    after = system.store(replace(state, memory=image), const(BASE + 3), const(1))
    assert words_in(states(after.lines), "dirty") == words_in(states(after.fetch), "dirty") == [0]
    routine = system.store(state, const(BASE + 8), const(8))
    assert isinstance(routine.lines, Stored) and words_in(states(routine.lines), "dirty") == [1]
