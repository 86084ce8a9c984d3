"""What the record says of a routine's instructions and loops."""

from __future__ import annotations

from pathlib import Path

import pytest
from kexec_verify.arm64.lift import Code
from kexec_verify.kexec.abi_variant import recognise
from kexec_verify.kexec.locate import find_function, find_routine
from kexec_verify.logic import TRUE
from kexec_verify.obligation import Obligation
from kexec_verify.prove.discharge import Result
from kexec_verify.report.invariants import loop_invariants, other_invariants
from kexec_verify.report.listing import list_instructions, loop_heads
from kexec_verify.target import open_target
from kexec_verify.theorems import CoveredFunction
from kexec_verify.verdict import Verdict

BINARIES = Path(__file__).resolve().parents[3] / "binaries"


def code(*words: int) -> Code:
    return Code("f", 0x1000, b"".join(word.to_bytes(4, "little") for word in words))


def test_branches_system_instructions_and_ends():
    found = list_instructions(
        code(0xB4000040, 0xD5033FDF, 0xD5182021, 0xD53B0021, 0xD65F03C0), {0x1000, 0x1004}
    )
    assert [(i.text, [t - 0x1000 for t in i.then], i.event, i.covered) for i in found] == [
        ("cbz x0, f+0x8/0x14", [4, 8], "", True),
        ("isb", [8], "InstructionSynchronizationBarrier", True),
        ("msr ttbr1_el1, x1", [12], "msr ttbr1_el1", False),
        ("mrs x1, ctr_el0", [16], "mrs ctr_el0", False),
        ("ret", [], "", False),
    ]


def test_instruction_without_a_meaning_says_why():
    (found,) = list_instructions(code(0xDAC10000), ())
    assert found.text == ".inst 0xdac10000" and found.then == []
    assert "FEAT_PAuth" in found.event


def test_branch_out_of_the_function_goes_nowhere_in_it():
    (found,) = list_instructions(code(0x14000004), ())
    assert found.then == []


def test_loops_of_irreducible_code_are_unknown():
    assert loop_heads(code(0xB4000040, 0xD503201F, 0xB5FFFFE1, 0xD65F03C0)) == []
    assert loop_heads(code(0xDAC10000)) == []


@pytest.mark.parametrize("name, copies", [("kimage-mmu-4k-gcc", True), ("regs-no-test-c-64k-clang", True)])
def test_loops_of_a_routine_have_formulas_that_a_person_reads(corpus, name, copies):
    (binary,) = [binary for binary in corpus if binary.path.stem == name]
    kernel = open_target(str(binary.path))
    routine = find_routine(kernel)
    body = Code(routine.name, routine.address, routine.code)
    variant = recognise(body, kernel.page_size)
    found = loop_invariants(body, variant, [])
    formulas = [record.formula for record in found]
    assert f"{variant.entry} = the current word of the list" in formulas
    assert any(f.startswith("memory = memory₀ with [") and "copy of [" in f for f in formulas) is copies
    assert {record.at for record in found} <= set(loop_heads(body))
    assert not any("@" in formula or "<" in formula for formula in formulas)


def test_routine_of_no_form_has_none():
    assert loop_invariants(code(0xD65F03C0), None, []) == []


def test_loops_of_a_callee_have_formulas_as_far_as_they_are_proved():
    kernel = open_target(str(BINARIES / "whole" / "later-4k-gcc.elf"))
    found = find_function(kernel, "dcache_clean_inval_poc")
    body = Code(found.name, found.address, found.code)
    (head,) = loop_heads(body)
    iteration = f"an iteration of the loop at {body.where(head)} "

    listed = CoveredFunction(body, frozenset())

    def formulas(verdict: Verdict, *sentences: str) -> list[str]:
        required = [Obligation("contract-flush-kept", iteration + said, (), TRUE, head) for said in sentences]
        results = [Result(obligation, verdict, "", (), False) for obligation in required]
        return [record.formula for record in other_invariants(listed, results)]

    kept = formulas(
        Verdict.PROVED, "leaves the registers as its definition says", "keeps: x0 has not wrapped"
    )
    assert any("cache lines of [" in formula for formula in kept) and kept[-1] == "x0 has not wrapped"
    assert formulas(Verdict.PROVED, "keeps: x0 has not wrapped") == ["x0 has not wrapped"]
    assert formulas(Verdict.UNKNOWN, "leaves the registers as its definition says", "keeps: x") == []


def test_what_is_known_at_a_cutpoint_is_listed_once_it_is_proved():
    kernel = open_target(str(BINARIES / "whole" / "later-4k-gcc.elf"))
    found = find_function(kernel, "dcache_clean_inval_poc")
    body = Code(found.name, found.address, found.code)
    (head,) = loop_heads(body)
    listed = CoveredFunction(body, frozenset(), known={head: ["x1 = x0 on entry"]})
    required = Obligation("tables-cut", "it holds", (), TRUE, head)

    def formulas(*verdicts: Verdict) -> list[str]:
        results = [Result(required, verdict, "", (), False) for verdict in verdicts]
        return [record.formula for record in other_invariants(listed, results)]

    assert formulas(Verdict.PROVED) == ["x1 = x0 on entry"]
    assert formulas() == formulas(Verdict.PROVED, Verdict.UNKNOWN) == []
