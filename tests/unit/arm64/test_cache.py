"""Line states as layers, against a cache of a few lines that is simulated word by word."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verify.arm64 import cache, system
from verify.arm64.cache import CLEAN, DIRTY, LOST, PENDING, Maintained, Stored, stored
from verify.logic import FALSE, TRUE, const, constant, ule, var
from verify.prove.smtlib import script
from verify.prove.solvers import Answer, ask_bitwuzla
from verify.symbolic.loops import generic_state

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
        for turn in range(count):
            single = Maintained(single, const(start + turn * line), None, operation, TRUE)
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
