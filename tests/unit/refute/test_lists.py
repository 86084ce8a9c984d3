"""The lists that a search tries: what is called well formed is, by the specification."""

from __future__ import annotations

import itertools

import pytest
from kexec_verify.logic import And, const
from kexec_verify.refute.lists import S, Word, build, build_plans, is_well_formed, systematic
from kexec_verify.refute.oracle import iterations
from kexec_verify.refute.scenario import OutsideError, Scenario, Words, image
from kexec_verify.refute.search import cuts
from kexec_verify.specs.kimage import WellFormed, one_flag
from kexec_verify.specs.relocate_kernel import Kind

NAMES = ("kimage-mmu-4k-gcc", "regs-done-test-4k-gcc", "kimage-mmu-16k-gcc")


def well_formed(scenario: Scenario) -> bool:
    """W2 … W7 as specs.kimage states them, for every pair of words."""
    made, memory = iterations(scenario)
    entries = (
        [iteration.entry for iteration in made] + [memory.read(made[-1].next_at)] if made else [scenario.head]
    )
    # The head lies in struct kimage: nothing is said of that page, so here it is one that no list has.
    at = [(1 << 64) - 8, *(iteration.next_at for iteration in made)]

    def sequence(values):
        return lambda i: const(values[i.args[0]])

    # Of repeated words that copy nothing one is enough: all pairs of a full page would take minutes.
    others = [i for i, iteration in enumerate(made) if iteration.kind is not Kind.DESTINATION]
    chosen = [*others[:8], len(made)]
    spec = WellFormed(
        sequence(entries),
        sequence(at),
        sequence([*(iteration.dest for iteration in made), 0]),
        sequence([*(iteration.addr for iteration in made), 0]),
        const(len(made)),
        scenario.page_size,
    )
    goals = [one_flag(const(entry)) for entry in entries]
    for i in map(const, chosen):
        goals += [spec.W3(i), spec.W4(i)]
        goals += [rule(i, j) for j in map(const, chosen) for rule in (spec.W5, spec.W6, spec.W7)]
    return bool(And(*goals).is_true())


@pytest.mark.parametrize("name", NAMES)
def test_lists_called_well_formed_are(name, routine):
    _, variant = routine(name)
    for plan in itertools.islice(build_plans(variant, head_test="done" in name), 70):
        scenario = build(plan, variant)
        iterations(scenario)  # the list machine is defined on all of them
        if plan.well_formed:
            assert well_formed(scenario), plan.name
            assert is_well_formed(plan, variant.page_size // 8), plan.name


@pytest.mark.parametrize(
    "plan", [p for p in systematic(512, True, True) if not p.well_formed], ids=lambda p: p.name
)
def test_arbitrary_lists_are_not_called_well_formed(plan):
    assert not is_well_formed(plan, 512)


def test_cuts_lose_no_promise(routine):
    _, variant = routine("kimage-mmu-4k-gcc")
    for plan in itertools.islice(build_plans(variant, head_test=False), 40, 60):
        for smaller in cuts(plan, 512):
            assert smaller.words <= plan.words
            assert well_formed(build(smaller, variant))


def test_machine_is_undefined_where_no_memory_is(routine):
    _, variant = routine("kimage-mmu-4k-gcc")
    plan = next(p for p in systematic(512, False, True) if p.name == "one page")
    (page, words), *_ = plan.pages
    bad = type(plan)("nowhere", plan.head, ((page, (words[0], Word(S, 4000), words[2])),))
    with pytest.raises(OutsideError):
        iterations(build(bad, variant))


@pytest.mark.parametrize("name", NAMES)
def test_image_holds_the_words_of_the_list_and_the_kimage(name, routine):
    _, variant = routine(name)
    plans = {plan.name: plan for plan in systematic(variant.page_size // 8, True, True)}
    scenario = build(plans["two segments"], variant)
    data, words = image(scenario), Words(scenario)
    for address, value in scenario.placed():
        offset = address - scenario.ram_at
        assert int.from_bytes(data[offset : offset + 8], "little") == value == words.read(address)
    assert scenario.kimage == variant.kimage
    assert (scenario.phys_offset != 0) == variant.kimage
