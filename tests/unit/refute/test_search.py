"""The search: silent on correct routines, and what it finds can be repeated."""

from __future__ import annotations

import itertools
import time

import msgspec
import pytest
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.abi_variant import recognise
from kexec_verify.refute.counterexample import Counterexample, format_counterexample
from kexec_verify.refute.lists import build_scenarios
from kexec_verify.refute.search import REFUTABLE, Search, first_fault, rerun, search
from kexec_verify.specs.properties import RELOCATION
from kexec_verify.theorems import prove
from kexec_verify.verdict import Verdict

NOP, IC_IALLU = 0xD503201F, 0xD508751F
TRIED = {4096: 60, 16384: 20, 65536: 6}  # lists; the larger the page, the longer a copy takes


@pytest.mark.slow
def test_correct_routine_breaks_nothing(corpus_binary, routine):
    code, variant = routine(str(corpus_binary))
    engine = Search(code, variant)
    assert engine.head_test == (corpus_binary.variant == "regs-done-test")
    for scenario in itertools.islice(build_scenarios(variant, engine.head_test), TRIED[variant.page_size]):
        assert engine.violations(scenario) == {}, scenario.name


@pytest.fixture(scope="module")
def broken(routine):
    """A routine without ``ic iallu`` and without the page's maintenance, and its form."""
    code, variant = routine("kimage-mmu-4k-gcc")
    for address in code.addresses:
        word = code.at(address).word
        if word == IC_IALLU or word & ~0x1F == 0xD50B7E20:
            code = code.patched(address, NOP)
    return code, recognise(code, variant.page_size)


@pytest.fixture(scope="module")
def found(broken):
    return search(*broken, most=30)


def test_search_finds_what_is_broken_and_nothing_else(found):
    assert set(found) == {"reloc-icache-invalid", "reloc-clean-to-poc"}
    assert set(found) < REFUTABLE


def test_a_busy_machine_finds_the_same(broken, found, monkeypatch):
    """Each look at a clock finds that an hour has passed."""
    hours = iter(range(0, 1 << 40, 3600))
    for clock in ("monotonic", "perf_counter", "time"):
        monkeypatch.setattr(time, clock, lambda: float(next(hours)))
    assert search(*broken, most=30) == found


def test_search_looks_for_what_is_wanted_only(broken):
    assert set(search(*broken, {"reloc-clean-to-poc", "reloc-step"}, most=30)) == {"reloc-clean-to-poc"}


def test_counterexample_is_small_and_tells_the_list(found):
    cx = found["reloc-clean-to-poc"]
    assert [word.flag for word in cx.list] == ["INDIRECTION", "DESTINATION", "SOURCE", "DONE"]
    assert {role for page in cx.pages for role in page.roles} >= {
        "list",
        "source",
        "destination",
        "struct kimage",
    }
    assert cx.path[-1].address == cx.at
    assert cx.path[-1].text.startswith("msr sctlr_el1")
    assert cx.where in cx.effect


def test_counterexample_survives_json_and_runs_again(found, broken, routine):
    for cx in found.values():
        stored = msgspec.json.decode(msgspec.json.encode(cx), type=Counterexample)
        assert stored == cx
        assert rerun(stored, *broken)
        assert not rerun(stored, *routine("kimage-mmu-4k-gcc"))


def test_text_names_the_kimage_every_word_and_the_effect(found):
    cx = found["reloc-clean-to-poc"]
    lines = format_counterexample(cx)
    text = "\n".join(lines)
    for wanted in (
        cx.effect,
        "struct kimage at",
        "phys_offset",
        *(f"{word.value:#018x}" for word in cx.list),
    ):
        assert wanted in text
    assert all(line == line.rstrip() for line in lines)


def test_long_lists_are_shortened_in_text_only(routine):
    code, _ = routine("kimage-mmu-4k-gcc")
    # The indirection sets the destination too: only a list over two pages shows it in the final memory.
    move = next(code.at(a) for a in code.addresses if code.at(a).text == "mov x21, x10")
    tail = (0xAA0A03F5, 0xAA0A03E9, 0x14000000 | (move.address + 4 - code.end - 8) >> 2 & 0x3FFFFFF)
    data = code.data + b"".join(word.to_bytes(4, "little") for word in tail)
    code = type(code)(code.name, code.address, data).patched(
        move.address, 0x14000000 | (code.end - move.address) >> 2 & 0x3FFFFFF
    )
    cx = search(code, recognise(code, 4096), {"reloc-memory-safe"}, most=40)["reloc-memory-safe"]
    assert len(cx.list) > 512
    lines = format_counterexample(cx)
    assert len(lines) < 50
    assert any("more words" in line for line in lines)


def test_first_fault_is_the_earliest_effect_of_the_first_list_that_shows_one(broken, routine):
    fault = first_fault(*broken, 20.0, 30)
    assert fault is not None
    # On the list without words nothing is dirty, and SCTLR_EL1 is written before control leaves.
    assert (fault.property, fault.at) == ("reloc-icache-invalid", broken[0].end - 4)
    assert first_fault(*routine("kimage-mmu-4k-gcc"), 20.0, 5) is None


def patched(routine, old: int, new: int):
    """The shipped routine with one word replaced, and its own form."""
    code, variant = routine("kimage-mmu-4k-gcc")
    (at,) = (address for address in code.addresses if code.at(address).word == old)
    return code.patched(at, new), variant


MRS_CNTVCT, MOVZ_X0_1 = 0xD53BE040, 0xD2800020


@pytest.mark.slow
def test_control_that_leaves_the_routine_is_refuted_and_never_proved(routine):
    original, _ = routine("kimage-mmu-4k-gcc")
    last = original.at(original.end - 4).word
    code, variant = patched(routine, last, NOP)
    outcome = prove(code, RELOCATION, variant.page_size, variant.layout)
    verdicts = {finding.claim.id: finding.verdict for finding in outcome.findings}
    assert verdicts["reloc-entry-state"] is Verdict.REFUTED
    assert Verdict.PROVED not in verdicts.values()
    (cx,) = (f.counterexample for f in outcome.findings if f.counterexample is not None)
    assert cx.at == code.end - 4
    assert f"control outside of the routine, at {code.end:#x}" in cx.effect


def test_instruction_without_a_model_hides_no_fault_of_other_lists(routine):
    # Only lists with EL2 vectors come to the instruction, and those without show the fault.
    code, variant = patched(routine, MOVZ_X0_1, MRS_CNTVCT)
    with pytest.raises(UnsupportedError, match="cntvct"):
        search(code, variant, most=10)
    (at,) = (address for address in code.addresses if code.at(address).word == IC_IALLU)
    assert "reloc-icache-invalid" in search(code.patched(at, NOP), variant, most=10)
