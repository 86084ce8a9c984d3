"""What boot patches in a callee: proved for each choice, and refuted with the choice that shows a fault."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from kexec_verify.kernel_proof import prove_kernel
from kexec_verify.kexec.calls import clobbered
from kexec_verify.kexec.locate import find_routine
from kexec_verify.prove.discharge import Discharger
from kexec_verify.refute.functions.record import rerun
from kexec_verify.specs.properties import PROPERTIES
from kexec_verify.target import Kernel, Segment, open_target
from kexec_verify.target.capability_rows import CapabilityRow
from kexec_verify.target.patch_tables import CALLBACK, Alternative
from kexec_verify.target.patching import Patching
from kexec_verify.theorems import Finding, Outcome
from kexec_verify.verdict import Verdict

from tests.obligations import callee_for_each_choice, troubles

IMAGE = Path(__file__).resolve().parents[2] / "binaries" / "whole" / "later-4k-gcc.elf"
NOP, ISB, RET, IC_IALLU, DSB_NSH = 0xD503201F, 0xD5033FDF, 0xD65F03C0, 0xD508751F, 0xD503379F
MOV_X19 = 0xAA0003F3  # mov x19, x0
DIC, ERRATUM, CNP = 11, 72, 13
REPLACEMENTS = 0xFFFF_8000_0900_0000
pytestmark = pytest.mark.slow

ROWS = {
    DIC: (CapabilityRow(DIC, "Instruction cache", "system", "has_cache_dic"),),
    ERRATUM: (CapabilityRow(ERRATUM, "Cavium erratum 27456", "any CPU", "is_affected"),),
    CNP: (CapabilityRow(CNP, None, "system", "has_useable_cnp"),),
}


def kernel(*sites: tuple[str, int, int, tuple[int, ...]]) -> Kernel:
    """The shipped kernel with alternatives: function, offset, capability, and the instructions of each."""
    found = open_target(str(IMAGE))
    code, entries = b"", []
    for name, offset, capability, words in sites:
        symbol = found.symbol(name)
        assert symbol is not None
        at = REPLACEMENTS + len(code)
        size = 4 * len(words)
        entries.append(Alternative(0, symbol.address + offset, at, capability, size, size))
        code += struct.pack(f"<{len(words)}I", *words)
    segments = (*found.segments, Segment(REPLACEMENTS, code))
    return replace(found, segments=segments, patching=Patching(ROWS, tuple(entries), (), ()))


def proved(target: Kernel) -> tuple[Outcome, Finding]:
    claim = PROPERTIES["callee-contracts"]
    outcome, _ = prove_kernel(target, find_routine(target), [claim], lambda _: None, Discharger())
    return outcome, next(found for found in outcome.findings if found.claim is claim)


def test_callees_are_proved_for_each_choice():
    target = kernel(
        ("icache_inval_pou", 4, DIC, (ISB, RET)),
        # At its entry, where a workaround may stand: it keeps what the function promises.
        ("cpu_set_reserved_ttbr0_nosync", 0, CNP, (NOP,)),
        ("cpu_do_switch_mm", 0, ERRATUM, (NOP,)),
    )
    outcome, found = proved(target)
    assert found.verdict is Verdict.PROVED, found.reason
    sentences = {result.obligation.sentence.partition(": ")[0] for result in found.results}
    assert {"where HAS_CACHE_DIC is set", "where WORKAROUND_CAVIUM_27456 is set"} <= sentences
    assert "capabilities-mean" in found.assumptions and "alternatives-unapplied" not in found.assumptions
    assert any("HAS_CACHE_DIC" in note for note in outcome.notes)
    # The same function is listed once, as it is linked.
    names = [listed.code.name for listed in outcome.others]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("site", "choice"),
    [
        # Without the ISB the CPU may have fetched older instructions.
        (("icache_inval_pou", 4, DIC, (NOP, RET)), "HAS_CACHE_DIC"),
        # The same instructions for another capability, which says nothing of the instruction cache.
        (("icache_inval_pou", 4, CNP, (ISB, RET)), "HAS_CNP"),
        (("cpu_do_switch_mm", 0, ERRATUM, (MOV_X19,)), "WORKAROUND_CAVIUM_27456"),
        (("cpu_do_switch_mm", 0x38, CNP, (NOP,)), "HAS_CNP"),
    ],
    ids=["no ISB", "another capability", "writes x19", "no ISB at the end"],
)
def test_fault_in_a_replacement_is_refuted_with_its_choice(site, choice):
    target = kernel(site)
    _, results, runs = callee_for_each_choice(target, site[0])
    failing = [result for result in results if result.verdict is not Verdict.PROVED]
    assert failing
    # Each is of the choice, and none of the function as it is linked.
    assert all(r.obligation.sentence.startswith(f"where {choice} is set: ") for r in failing)
    found = [shown for r in failing if (shown := runs.refute(r, "callee-contracts")) is not None]
    assert found
    for shown in found:
        assert shown.choices == (choice,)
        assert [new for _, new in shown.patched] == [struct.pack(f"<{len(site[3])}I", *site[3]).hex()]
        # The record has the choice's own instructions: the file's bytes are enough to run it again.
        assert rerun(json.loads(json.dumps(shown.as_dict())), target.read) == shown


def test_replacement_that_is_one_instruction_short_is_not_proved():
    """The loop goes by what the register held."""
    _, results, _ = callee_for_each_choice(kernel(("icache_inval_pou", 4, DIC, (ISB,))), "icache_inval_pou")
    wrong = {r.obligation.sentence for r in results if r.verdict is not Verdict.PROVED}
    assert wrong and all(sentence.startswith("where HAS_CACHE_DIC is set: ") for sentence in wrong)


def test_register_that_only_a_replacement_writes_is_relied_on_by_callers():
    """A caller takes x7 for unchanged where the linked callee does not write it: a replacement must not."""
    target = kernel(("cpu_set_reserved_ttbr0_nosync", 4, CNP, (0xD2800007,)))  # mov x7, #0
    composition, results, _ = callee_for_each_choice(target, "cpu_set_reserved_ttbr0_nosync")
    _, found = composition.contracts["cpu_set_reserved_ttbr0_nosync"]
    assert "x7" not in clobbered(composition.context, "cpu_set_reserved_ttbr0_nosync", found)
    wrong = {r.obligation.name for r in results if r.verdict is not Verdict.PROVED}
    assert "contract-cpu_set_reserved_ttbr0_nosync-keeps" in wrong


def test_instructions_that_are_not_known_are_not_proved():
    target = kernel(("cpu_do_switch_mm", 0, CNP, (NOP,)))
    (entry,) = target.patching.alternatives
    made = replace(entry, capability=CALLBACK | CNP, replacement_size=0)
    target = replace(target, patching=Patching(ROWS, (made,), (), ()))
    composition, results, _ = callee_for_each_choice(target, "cpu_do_switch_mm")
    assert {result.verdict for result in results} == {Verdict.PROVED}  # as it is linked
    (trouble,) = troubles(composition)
    assert trouble.startswith("where HAS_CNP is set: ") and "makes at boot" in trouble
