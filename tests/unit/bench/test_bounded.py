"""Bounded execution: it finds the copy, and the want of it; its hypotheses can hold."""

import pytest
from kexec_verify.arm64.lift import Code
from kexec_verify.kexec.abi_variant import recognise
from kexec_verify.kexec.locate import find_routine
from kexec_verify.logic import FALSE, const, constant
from kexec_verify.prove.smtlib import script
from kexec_verify.prove.solvers import Answer, ask_bitwuzla
from kexec_verify.specs.kimage import IND_INDIRECTION
from kexec_verify.target import open_target

from bench import bounded
from bench.bounded import explore, holds, problem

NOP = 0xD503_201F


@pytest.fixture(scope="module")
def routine():
    found = find_routine(open_target("binaries/kimage-mmu-4k-gcc.elf"))
    code = Code(found.name, found.address, found.code)
    return code, recognise(code)


def answer(code, variant, pages):
    asked = problem(variant, pages, symbolic=False)
    ends = explore(code, asked.state)
    return len(ends) == 1 and holds(asked, ends[0].state, variant.page_size)


def test_the_routine_copies_each_page(routine):
    code, variant = routine
    assert answer(code, variant, 3)


def test_a_routine_that_skips_words_does_not(routine):
    code, variant = routine
    store = next(a for a in code.addresses if code.at(a).text.startswith("stnp"))
    assert not answer(code.patched(store, NOP), variant, 2)


def test_the_hypotheses_on_symbolic_addresses_can_hold(routine):
    _, variant = routine
    facts = problem(variant, 3, symbolic=True).state.facts
    assert len(facts) > 6
    assert ask_bitwuzla(script(facts, FALSE)).answer is Answer.SAT


def test_a_list_goes_on_on_the_next_page():
    words = [const(1 << 20 | i << 12) for i in range(600)]
    placed = list(bounded._placed(words, 4096))
    values = [constant(value) for _, value in placed]
    assert [at for at, _ in placed] == [bounded.LIST + 8 * i for i in range(601)]
    assert values[511] == bounded.LIST + 4096 | IND_INDIRECTION
    assert values[:511] + values[512:] == [constant(word) for word in words]
