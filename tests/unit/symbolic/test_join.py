"""One state for several: each of them is an instance of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kexec_verify.arm64.cache import Lines
from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import const, constant, same, var, variables
from kexec_verify.memory import Unknown
from kexec_verify.symbolic.join import join
from kexec_verify.symbolic.loops import generic_state
from kexec_verify.symbolic.objects import Object, Objects

SP = var("sp")
FRAME = Object("frame", SP, -64, 0)


def state(**registers: int):
    known = {name: const(value, generic_state().registers[name].length) for name, value in registers.items()}
    return replace(generic_state(), memory=Objects((FRAME,))).with_registers(**known)


def test_registers_that_agree_are_kept_and_others_are_unknown():
    joined = join([state(x0=1, x1=2, ZR=1), state(x0=1, x1=3, ZR=1)], "here")
    assert constant(joined.registers["x0"]) == constant(joined.registers["ZR"]) == 1
    assert joined.registers["x1"].args[0] == "x1@here"
    assert same(joined.registers["x2"], generic_state().registers["x2"])


def test_ghosts_that_agree_are_kept_and_others_are_unknown():
    left, right = (state().with_ghosts(unsynced=const(bit, 1), icache=const(1, 2)) for bit in (0, 1))
    joined = join([left, right], "here")
    assert constant(joined.ghosts["icache"]) == 1
    assert constant(joined.ghosts["unsynced"]) is None


def test_only_shared_facts_are_kept():
    shared, only = ("shared", var("a") == 1), ("only", var("b") == 1)
    other = ("only", var("b") == 2)  # the same label says something else
    joined = join([state().assume(shared, only), state().assume(other, shared)], "here")
    assert joined.facts == (shared,)


def test_bytes_that_differ_are_unknown_and_others_are_kept():
    left, right = state(), state()
    left = replace(left, memory=left.memory.store(SP - 8, const(0x1111_2222)).store(SP - 16, const(7)))
    right = replace(right, memory=right.memory.store(SP - 8, const(0x3333_2222)).store(SP - 16, const(7)))
    memory = join([left, right], "here").memory
    assert constant(memory.load(SP - 16, 8)) == 7
    assert constant(memory.load(SP - 8, 2)) == 0x2222
    assert constant(memory.load(SP - 6, 2)) is None
    assert constant(memory.load(SP - 4, 4)) == 0


def test_bytes_that_one_path_alone_stored_are_unknown():
    left, right = state(), state()
    right = replace(right, memory=right.memory.store(SP - 8, const(5)))
    for pair in ([left, right], [right, left]):
        found = join(pair, "here").memory.load(SP - 8, 8)
        assert constant(found) is None
        assert any(name.endswith("@here") for name in variables([found]))


def test_objects_that_one_path_alone_has_are_left_out():
    left, right = state(), state()
    right = replace(right, memory=right.memory.adding(Object("more", var("q"), 0, 8)))
    for pair in ([left, right], [right, left]):
        with pytest.raises(UnsupportedError, match="no known object"):
            join(pair, "here").memory.load(var("q"), 8)


def test_one_memory_is_kept_and_others_of_words_are_refused():
    words = replace(state(), memory=Unknown("M"))
    assert join([words, words], "here").memory is words.memory
    with pytest.raises(UnsupportedError, match="paths that join"):
        join([words, replace(words, memory=words.memory.write(SP, const(1)))], "here")
    with pytest.raises(UnsupportedError, match="paths that join"):
        join([state(), words], "here")


def test_memories_of_different_moments_are_refused():
    with pytest.raises(UnsupportedError, match="paths that join"):
        join([state(), replace(state(), memory=Objects((FRAME,), "later"))], "here")


def test_nothing_is_known_of_lines_of_several_states():
    joined = join([state(), replace(state(x0=1), lines=state().lines)], "here")
    assert variables([joined.lines.read(const(0))]) != variables([state().lines.read(const(0))])


def test_what_one_path_popped_may_be_read_only_if_all_have_stored_it():
    before = Objects((FRAME,)).store(SP - 8, const(1)).store(SP - 16, const(2))
    popped = before.popped("frame", SP - 16, SP).store(SP - 8, const(1))
    for memories in ((before, popped), (popped, before)):
        joined = join([replace(state(), memory=memory) for memory in memories], "here").memory
        assert constant(joined.load(SP - 8, 8)) == 1
        with pytest.raises(UnsupportedError, match="load of popped bytes"):
            joined.load(SP - 16, 8)


def test_cache_lines_that_all_share_are_kept_and_others_are_unknown():
    left, right = state(), state()
    right = replace(right, lines=left.lines, fetch=left.fetch)
    assert join([left, right], "here").lines is left.lines
    assert join([left, right], "here").fetch is left.fetch
    other = replace(right, lines=Lines("another"))
    assert join([left, other], "here").lines.name == "L@here"
    assert join([left], "here").lines is left.lines
