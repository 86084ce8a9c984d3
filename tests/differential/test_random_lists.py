"""The routine against the list machine, on lists that hypothesis makes up: real bytes, real effects."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kexec_verify.arm64.lift import Code
from kexec_verify.kexec.abi_variant import recognise
from kexec_verify.kexec.locate import find_routine
from kexec_verify.refute.lists import DONE, HIGH, LIST, RAM, Plan, Word, build, is_well_formed
from kexec_verify.refute.search import Search
from kexec_verify.specs.kimage import IND_DESTINATION, IND_INDIRECTION, IND_SOURCE
from kexec_verify.target import open_target

pytestmark = pytest.mark.slow

DESTINATIONS = range(5, 14)
SOURCES = list(range(14, 25))
SLOTS = 4096 // 8


@st.composite
def lists(draw) -> Plan:
    """Well-formed lists: segments of consecutive pages, each from a page of its own or from itself."""
    free = draw(st.permutations(SOURCES))
    words, at = [], DESTINATIONS.start
    for length in draw(st.lists(st.integers(0, 3), min_size=0, max_size=4)):
        at += draw(st.integers(0, 1))
        if at + length > DESTINATIONS.stop:
            break
        words.append(Word(IND_DESTINATION, at))
        for _ in range(length):
            itself = draw(st.booleans()) and draw(st.booleans())
            words.append(Word(IND_SOURCE, at if itself else free.pop()))
            at += 1
    return Plan(
        "made up",
        Word(IND_INDIRECTION, LIST),
        ((LIST, (*words, DONE)),),
        kimage=draw(st.sampled_from((26, 26, 6))),
        el2=draw(st.booleans()),
        refuses=draw(st.booleans()),
        dminline=draw(st.integers(2, 9)),
        ram=draw(st.sampled_from((RAM, *HIGH))),
        garbage=draw(st.sampled_from(("marked", "zero", "addresses"))),
    )


_ENGINES: dict[str, Search] = {}


def engine(path) -> Search:
    if str(path) not in _ENGINES:
        routine = find_routine(open_target(str(path)))
        code = Code(routine.name, routine.address, routine.code)
        _ENGINES[str(path)] = Search(code, recognise(code))
    return _ENGINES[str(path)]


def shipped(corpus, stem: str):
    return next(binary.path for binary in corpus if str(binary) == stem)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plan=lists(),
    stem=st.sampled_from(("kimage-mmu-4k-gcc", "regs-done-test-4k-gcc", "regs-no-test-c-4k-gcc")),
)
def test_routine_does_what_the_list_machine_does(corpus, plan: Plan, stem: str):
    assert is_well_formed(plan, SLOTS)
    search = engine(shipped(corpus, stem))
    assert search.violations(build(plan, search.variant)) == {}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=lists().filter(lambda plan: any(w.flags == IND_SOURCE for w in plan.pages[0][1])))
def test_a_routine_that_skips_words_of_a_page_is_told_apart(corpus, plan: Plan):
    """The test above can fail: one stnp dropped shows on every list that copies a page."""
    good = engine(shipped(corpus, "kimage-mmu-4k-gcc"))
    store = next(a for a in good.code.addresses if good.code.at(a).text.startswith("stnp"))
    broken = Search(good.code.patched(store, 0xD503201F), good.variant)
    copied = [w for w in plan.pages[0][1] if w.flags == IND_SOURCE and w.page in SOURCES]
    found = broken.violations(build(plan, good.variant))
    assert bool(copied) == ("reloc-dest-pages" in found)
