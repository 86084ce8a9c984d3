"""Every seeded fault is refuted by a run; the edits that change nothing claimed are not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest
from elftools.elf.elffile import ELFFile
from kexec_verify.arm64.lift import Code
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.abi_variant import AbiVariant, recognise
from kexec_verify.kexec.locate import find_routine
from kexec_verify.prove.discharge import Discharger
from kexec_verify.refute.counterexample import Counterexample, format_counterexample
from kexec_verify.refute.search import rerun, search
from kexec_verify.specs.properties import RELOCATION
from kexec_verify.theorems import prove
from kexec_verify.verdict import Verdict, join

from .mutants import MUTANTS, Mutant, Target

pytestmark = pytest.mark.mutant

SHIPPED = (
    "kimage-mmu-4k-gcc",
    "kimage-mmu-64k-clang",
    "regs-done-test-4k-gcc",
    "regs-no-test-4k-gcc",
    "regs-no-test-16k-clang",
)
PROVED = ("kimage-mmu-4k-gcc", "regs-done-test-4k-gcc")
KERNELS = {
    "linux-image-6.1.*[0-9]-arm64": 4096,
    "linux-image-6.12.*[0-9]-arm64-16k": 16384,
}
SECONDS = 240.0  # a search ends as soon as it has found what is wanted
LISTS = {4096: 60, 16384: 30, 65536: 24}  # tried before an edit counts as changing nothing


@pytest.fixture(scope="module")
def shipped(corpus) -> Callable[[str], Target]:
    """A function (stem of a shipped binary) that returns its routine."""
    binaries = {str(binary): binary for binary in corpus}

    def load(stem: str) -> Target:
        with binaries[stem].path.open("rb") as stream:
            elf = ELFFile(stream)
            symbol = elf.get_section_by_name(".symtab").get_symbol_by_name(binaries[stem].entry)[0]
            text = elf.get_section(symbol["st_shndx"])
            start = symbol["st_value"] - text["sh_addr"]
            data = text.data()[start : start + symbol["st_size"]]
        code = Code(binaries[stem].entry, symbol["st_value"], data)
        return Target(code, recognise(code, binaries[stem].page_size))

    return load


@pytest.fixture(scope="module")
def distributed(debian_kernel) -> Callable[[str], Target]:
    """A function (pattern of package names) that returns the routine of the newest such kernel."""

    def load(pattern: str) -> Target:
        routine = find_routine(debian_kernel(pattern))
        code = Code(routine.name, routine.address, routine.code)
        return Target(code, recognise(code, KERNELS[pattern]))

    return load


def form_of(code: Code, target: Target) -> AbiVariant:
    """The form of a mutant, which may be too odd to be recognised; no patch moves the loop."""
    try:
        return recognise(code, target.variant.page_size)
    except UnsupportedError:
        return target.variant


def check(mutant: Mutant, target: Target) -> None:
    code = mutant.patch(target)
    assert code.data != target.code.data
    variant = form_of(code, target)
    same = mutant.same_in(target.variant)
    if same is not None:
        most = LISTS[variant.page_size]
        assert search(code, variant, None, SECONDS, well_formed_only=same.well_formed_only, most=most) == {}
        return
    found = search(code, variant, set(mutant.expected), SECONDS)
    assert set(found) == mutant.expected
    for cx in found.values():
        assert rerun(msgspec.json.decode(msgspec.json.encode(cx), type=Counterexample), code, variant)
        assert cx.effect in format_counterexample(cx)[0]


def cases(targets: Iterable[str], variant: Callable[[str], str], share: int = 1) -> list[Any]:
    """Each target with each mutant that its form can have.

    Of each mutant one target of each form is not left to the campaign, if ``share`` divides its number.
    """
    found = []
    for mutant in MUTANTS:
        fitting = [target for target in targets if mutant.only in (None, variant(target))]
        for target in fitting:
            alike = [other for other in fitting if variant(other) == variant(target)]
            chosen = target == alike[mutant.number % len(alike)] and mutant.number % share == 0
            marks = () if chosen else pytest.mark.campaign
            found.append(pytest.param(target, mutant, id=f"{target}-{mutant}", marks=marks))
    return found


@pytest.mark.parametrize(
    "stem, mutant", cases(SHIPPED, lambda stem: stem.split("-")[0].replace("regs", "registers"))
)
def test_shipped_routine(stem, mutant, shipped):
    check(mutant, shipped(stem))


@pytest.mark.kernel
@pytest.mark.parametrize("pattern, mutant", cases(KERNELS, lambda _: "kimage"))
def test_distributed_routine(pattern, mutant, distributed):
    check(mutant, distributed(pattern))


@pytest.fixture(scope="module")
def discharger() -> Discharger:
    """One for all mutants: what a fault does not touch is asked once."""
    return Discharger()


def check_verdict(mutant: Mutant, target: Target, discharger: Discharger) -> None:
    """The whole tool's answer: never undecided, and PROVED for nothing that is broken."""
    code, variant = mutant.patch(target), target.variant
    outcome = prove(code, RELOCATION, variant.page_size, variant.layout, discharger=discharger)
    verdicts = {finding.claim.id: finding.verdict for finding in outcome.findings}
    if mutant.same_in(variant) is not None:
        assert set(verdicts.values()) == {Verdict.PROVED}
        return
    assert join(verdicts.values()) is Verdict.REFUTED
    refuted = {claim for claim, verdict in verdicts.items() if verdict is Verdict.REFUTED}
    assert refuted >= mutant.expected
    assert not {claim for claim in mutant.expected if verdicts[claim] is Verdict.PROVED}


@pytest.mark.parametrize(
    "stem, mutant", cases(PROVED, lambda stem: stem.split("-")[0].replace("regs", "registers"))
)
def test_verdict_on_shipped_routine(stem, mutant, shipped, discharger):
    check_verdict(mutant, shipped(stem), discharger)


@pytest.mark.kernel
@pytest.mark.parametrize("pattern, mutant", cases(list(KERNELS)[:1], lambda _: "kimage", share=4))
def test_verdict_on_distributed_routine(pattern, mutant, distributed, discharger):
    check_verdict(mutant, distributed(pattern), discharger)


def test_permuted_flag_tests_matter_for_words_of_two_flags(shipped):
    """Mutant 40 is equivalent under W2 only: the list machine itself tells the orders apart."""
    target = shipped("regs-no-test-4k-gcc")
    permuted = next(mutant for mutant in MUTANTS if mutant.number == 40)
    code = permuted.patch(target)
    found = search(code, form_of(code, target), {"reloc-step"}, SECONDS)
    assert any("|" in word.flag for word in found["reloc-step"].list)
