"""The flush of list and source pages is proved of the shipped images alone; loops that do not end."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.list_flush import follows_list
from kexec_verify.kexec.locate import find_routine
from kexec_verify.kexec.post_load import NAME, PostLoad
from kexec_verify.logic import FALSE
from kexec_verify.obligation import Obligation
from kexec_verify.prove.discharge import Discharger, Result, decide
from kexec_verify.refute.functions.judge import broken, renewed, usable
from kexec_verify.refute.functions.search import leaving, refute
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.target import Kernel, open_target
from kexec_verify.verdict import Verdict

BINARIES = Path(__file__).resolve().parents[3] / "binaries" / "whole"
REGISTER_FORMS = (
    "seed-after-4k-gcc",
    "seed-before-4k-clang",
    pytest.param("seed-after-4k-clang", marks=pytest.mark.campaign),
    pytest.param("seed-before-4k-gcc", marks=pytest.mark.campaign),
)
ARCH = 648  # offset of struct kimage_arch in the corpus
NOP, SELF = 0xD503201F, 0x14000000  # b .
CLEAN, ENDS = "pl-list-clean", "pl-loop-terminates"
ASKED = (CLEAN, "pl-loop-init", "pl-loop-kept", ENDS)

# Offsets in machine_kexec_post_load of the state after the patch, as gcc compiled it.
FAULTS = {
    "flushes no word of the list": {0x10C: NOP},
    "flushes no source page": {0x158: NOP},
    "flushes one line of a source page": {0x154: 0xD2800801},  # mov x1, #64
    "flushes all but one line of a source page": {0x154: 0xD281F801},  # mov x1, #0xfc0
    "flushes the word behind the one that it reads": {0x104: 0x91002260},  # add x0, x19, #8
    "flushes no bytes of a word": {0x108: 0xD2800001},  # mov x1, #0
    "flushes the control page for the word": {0x104: 0xAA1503E0},  # mov x0, x21
    "stops one word early": {0x164: 0x14000001},  # b to the way out
    "stops at a DESTINATION": {0x138: 0x54000180},  # b.eq to the way out
    "follows no INDIRECTION": {0x144: 0x91002273},  # add x19, x19, #8
    "leaves out every second word": {0x15C: 0x91004260},  # add x0, x19, #16
}


@functools.cache
def opened(name: str) -> Kernel:
    return open_target(str(BINARIES / f"{name}.elf"))


def patched(name: str, words: dict[int, int], function: str = NAME) -> Kernel:
    kernel = opened(name)
    symbol = kernel.symbol(function)
    assert symbol is not None
    for offset, word in words.items():
        kernel = kernel.patched(symbol.address + offset, word.to_bytes(4, "little"))
    return kernel


def proof_of(kernel: Kernel, mmu_on: bool = False, through_routine: bool = False) -> PostLoad:
    context = KexecContext(kernel, KimageLayout(ARCH), 4096)
    proof = PostLoad(context, decide, find_routine(kernel), through_routine, mmu_on)
    proof.prove()
    return proof


def failing(obligations: list[Obligation], *names: str) -> list[Result]:
    required = [obligation for obligation in obligations if obligation.name in names]
    assert required
    return [r for r in Discharger(10).discharge(required) if r.verdict is not Verdict.PROVED]


@pytest.mark.slow
@pytest.mark.parametrize("name", REGISTER_FORMS)
def test_flush_of_the_shipped_images_is_proved(name):
    proof = proof_of(opened(name), through_routine="before" in name)
    assert failing(proof.obligations, *ASKED) == []
    assert sum(follows_list(iterations.kept) for iterations in proof.iterations) == 1
    # The claim is no empty one: somewhere it takes the solvers a proof.
    required = [obligation for obligation in proof.obligations if obligation.name == CLEAN]
    assert not all(result.idle for result in Discharger(10).discharge(required))


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_flush_is_refuted_by_a_run(fault):
    proof = proof_of(patched("seed-after-4k-gcc", FAULTS[fault]))
    found = failing(proof.obligations, CLEAN)
    assert found
    shown = next(filter(None, (refute(proof, result, "a property") for result in found)), None)
    assert shown is not None
    assert "found: dirty" in shown.effect


def test_where_the_mmu_is_on_nothing_is_asked_of_the_list():
    proof = proof_of(opened("later-4k-gcc"), mmu_on=True)
    assert CLEAN not in {obligation.name for obligation in proof.obligations}


# A loop before that over the segments: it neither flushes nor counts.
ENDLESS = {"for ever": SELF, "until a register is 0 that stays as it is": 0xB5000000}  # cbnz x0, .


@pytest.mark.slow
@pytest.mark.parametrize("fault", ENDLESS)
def test_a_loop_that_neither_flushes_nor_counts_has_an_obligation_that_fails(fault):
    proof = proof_of(patched("seed-after-4k-gcc", {0x48: ENDLESS[fault]}))
    symbol = proof.context.kernel.symbol(NAME)
    assert symbol is not None
    found = failing(proof.obligations, ENDS)
    assert {result.obligation.at for result in found} == {symbol.address + 0x48}
    assert all(result.obligation.goal is FALSE for result in found)


@pytest.mark.slow
def test_the_concrete_judge_sees_dirty_list_and_source_words():
    good = proof_of(opened("seed-after-4k-gcc"))
    given = usable(good, leaving(good, 6), lambda name: True)
    for fault in ("flushes no word of the list", "flushes no source page", "stops one word early"):
        context = KexecContext(patched("seed-after-4k-gcc", FAULTS[fault]), KimageLayout(ARCH), 4096)
        told = [broken(renewed(good, context), inputs, lambda name: name == CLEAN)[0] for inputs in given]
        assert any(told), fault
