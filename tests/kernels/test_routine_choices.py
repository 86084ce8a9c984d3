"""What boot patches in the routine and in memcpy of Debian's 7.3: erratum 4311569, and FEAT_MOPS."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping

import pytest
from kexec_verify.kernel_proof import prove_kernel
from kexec_verify.kexec.abi_variant import recognise
from kexec_verify.kexec.composition import Composition
from kexec_verify.kexec.locate import find_routine
from kexec_verify.kexec.post_load import NAME as POST_LOAD
from kexec_verify.prove.discharge import Discharger
from kexec_verify.refute.counterexample import Counterexample
from kexec_verify.refute.functions.paths import PathRuns
from kexec_verify.refute.patched import patched
from kexec_verify.refute.search import rerun
from kexec_verify.specs.properties import RELOCATION
from kexec_verify.target import Kernel, debian, open_target
from kexec_verify.theorems import Code, Outcome
from kexec_verify.verdict import Verdict

from tests.obligations import troubles

pytestmark = pytest.mark.kernel

CHOICE = "WORKAROUND_4311569"
KEEPS_START, AGAIN = 0xA0, 0xB4  # where the workaround keeps the first line's address, and goes back to it
NOP, MOV_X20_X1, ADD_X19_X20 = 0xD503201F, 0xAA0103F4, 0x91000293
CBNZ = 2  # the last of the three instructions at AGAIN
TO_PAGE = 0x08  # of __memcpy: mov x3, x0; the copy is behind it
CPYP, CPYM, CPYE = 0x1D010443, 0x1D410443, 0x1D810443


@pytest.fixture(scope="module")
def kernel(require_tool: Callable[[str, str], str]) -> Kernel:
    require_tool("apt-get", "apt")
    return open_target(debian.in_suite("debian:linux-image-7.3.4+deb13-arm64", "trixie-backports"))


def replaced(kernel: Kernel, offset: int, index: int, word: int) -> Kernel:
    """The kernel with another word in the replacement of the site at ``offset`` in the routine."""
    at = find_routine(kernel).address + offset
    assert kernel.patching is not None
    (entry,) = (found for found in kernel.patching.alternatives if found.original == at)
    return kernel.patched(entry.replacement + 4 * index, struct.pack("<I", word))


def routine(kernel: Kernel) -> Outcome:
    outcome, _ = prove_kernel(kernel, find_routine(kernel), RELOCATION, lambda _: None, Discharger())
    return outcome


@pytest.mark.parametrize("harmless", [False, True])
def test_routine_is_proved_for_each_choice(kernel: Kernel, harmless: bool):
    outcome = routine(replaced(kernel, AGAIN, 0, ADD_X19_X20) if harmless else kernel)
    assert {finding.verdict for finding in outcome.findings} == {Verdict.PROVED}
    said = [r for f in outcome.findings for r in f.results if r.obligation.sentence.startswith("where ")]
    assert {result.obligation.name for result in said} >= {"reloc-step-source", "reloc-clean-to-poc"}
    assert all(r.obligation.sentence.startswith(f"where {CHOICE} is set: ") for r in said)
    assert any(CHOICE in note and "holds for every choice" in note for note in outcome.notes)
    assert not any("alternatives-unapplied" in note for note in outcome.notes)
    first = find_routine(kernel).address
    twice = [path for path in outcome.paths if path.count(first + 0xA4) == 2]
    assert twice and all(outcome.paths[path] is not None for path in twice)


def test_second_round_over_another_page_is_refuted_with_the_choice(kernel: Kernel):
    target = replaced(kernel, KEEPS_START, 0, MOV_X20_X1)
    found = find_routine(target)
    refuted = [f for f in routine(target).findings if f.verdict is Verdict.REFUTED]
    assert refuted and all(f.reason.startswith(f"where {CHOICE} is set: ") for f in refuted)
    for finding in refuted:
        shown = finding.counterexample
        assert isinstance(shown, Counterexample) and shown.choices == (CHOICE,)
        # The record has the choice's own instructions: the file's bytes are enough to run it again.
        data = patched(found.code, found.address, json.loads(json.dumps(shown.patched)))
        code = Code(found.name, found.address, data)
        assert rerun(shown, code, recognise(code, target.page_size))
        assert not rerun(shown, Code(found.name, found.address, found.code), recognise(code))


@pytest.mark.parametrize(("index", "word"), [(1, NOP), (CBNZ, 0x17FFFFFA)], ids=["keeps x20", "b"])
def test_loop_that_is_entered_for_ever_is_not_proved(kernel: Kernel, index: int, word: int):
    outcome = routine(replaced(kernel, AGAIN, index, word))
    by_id = {finding.claim.id: finding for finding in outcome.findings}
    assert by_id["reloc-step"].verdict is not Verdict.PROVED
    assert CHOICE in by_id["reloc-step"].reason


def test_workaround_for_some_pages_only_is_still_right(kernel: Kernel):
    """Without the way back the lines are maintained once, which is all that the architecture asks for."""
    outcome = routine(replaced(kernel, AGAIN, CBNZ, NOP))
    assert {finding.verdict for finding in outcome.findings} == {Verdict.PROVED}


def copied(kernel: Kernel) -> tuple[Composition, set[Verdict], bool]:
    """The composition of post_load and its callees, the verdicts on memcpy's contract where FEAT_MOPS is
    used, and whether a run takes each of its paths.
    """
    found, discharger = find_routine(kernel), Discharger()
    code = Code(found.name, found.address, found.code)
    composition = Composition(
        kernel, recognise(code, kernel.page_size), found, discharger.decide, choices=True
    )
    composition._attempt(POST_LOAD, composition._post_load)
    composition.build_callees()
    part = composition.parts["callee __memcpy, HAS_MOPS"]
    results = discharger.discharge(part.obligations)
    runs = PathRuns(composition)
    seen = all(runs.seen(result.obligation) for result in results if not result.idle)
    return composition, {result.verdict for result in results}, seen


def in_memcpy(kernel: Kernel, words: Mapping[int, int]) -> Kernel:
    symbol = kernel.symbol("__memcpy")
    assert symbol is not None
    for offset, word in words.items():
        kernel = kernel.patched(symbol.address + offset, struct.pack("<I", word))
    return kernel


@pytest.mark.parametrize("word", [0xAA0003E3, 0x91000003], ids=["as it is", "add x3, x0, #0"])
def test_copy_by_mops_is_proved_and_run(kernel: Kernel, word: int):
    composition, verdicts, seen = copied(in_memcpy(kernel, {TO_PAGE: word}))
    assert verdicts == {Verdict.PROVED} and seen
    assert troubles(composition) == []
    assert "HAS_MOPS" in composition.proved_both_ways.values()


@pytest.mark.parametrize(
    "words",
    [
        {TO_PAGE: 0xAA0103E3},  # mov x3, x1
        {TO_PAGE: 0x91002003},  # add x3, x0, #8
        {0x0C: 0x1D030441, 0x10: 0x1D430441, 0x14: 0x1D830441},  # from x3 to x1
        {TO_PAGE: 0xD1000442},  # sub x2, x2, #1, and x3 is what it was
    ],
)
def test_wrong_copy_by_mops_is_not_proved(kernel: Kernel, words: dict[int, int]):
    composition, verdicts, _ = copied(in_memcpy(kernel, words))
    assert verdicts != {Verdict.PROVED} or troubles(composition)


@pytest.mark.parametrize("words", [{0x14: NOP}, {0x10: CPYE}, {0x0C: NOP}, {0x0C: CPYM, 0x10: CPYP}])
def test_part_of_a_copy_is_unsupported(kernel: Kernel, words: dict[int, int]):
    composition, _, _ = copied(in_memcpy(kernel, words))
    assert [trouble.partition(": ")[0] for trouble in troubles(composition)] == ["where HAS_MOPS is set"]
