"""Mutation as a measure: on a sample of one-instruction mutants no verdict contradicts a concrete run."""

from pathlib import Path

import pytest
from kexec_verify.arm64.lift import Code
from kexec_verify.kexec.abi_variant import recognise
from kexec_verify.kexec.locate import find_routine
from kexec_verify.mutate import binary
from kexec_verify.mutate.decision import seed_each
from kexec_verify.mutate.hypotheses import DROPPED, change_each
from kexec_verify.mutate.run import Job, attempt
from kexec_verify.mutate.weaken import BIT
from kexec_verify.specs.properties import RELOCATION
from kexec_verify.target import open_target
from kexec_verify.theorems import prove

pytestmark = pytest.mark.mutant

SAMPLE = 12
SHIPPED = Path(__file__).parents[2] / "binaries" / "kimage-mmu-4k-gcc.elf"

# What the argument leans on: without it, some proof must fail.
NEEDED = {
    "list-defined",
    "list-head",
    "list-well-formed",
    "pages-below-top",
    "phys-offset-aligned",
    "kimage-aligned",
    "daif-masked",
    "progress is a multiple of the stride",
    "progress is below 0x1000",
    "no word was lost so far",
}


@pytest.fixture(scope="module")
def routine() -> Code:
    function = find_routine(open_target(str(SHIPPED)))
    return Code(function.name, function.address, function.code)


def test_every_kind_of_mutant_is_made_of_every_instruction(routine):
    made = list(binary.mutants(routine))
    assert {mutant.kind for mutant in made} == {
        "deletion",
        "swap",
        "register",
        "immediate",
        "condition",
        "opcode",
    }
    assert {mutant.at for mutant in made} == set(routine.addresses)
    assert all(mutant.code.data != routine.data for mutant in made)


def test_a_sample_is_the_same_for_the_same_seed(routine):
    first, again = binary.sample(routine, 50, seed=7), binary.sample(routine, 50, seed=7)
    assert first == again or [m.edit for m in first] == [m.edit for m in again]
    assert [m.edit for m in first] != [m.edit for m in binary.sample(routine, 50, seed=8)]


def test_no_mutant_is_proved_that_a_run_shows_to_be_broken(routine):
    variant = recognise(routine)
    records = [attempt(Job(m, variant, ask_prover=True)) for m in binary.sample(routine, SAMPLE, seed=3)]
    refuted = [record for record in records if record.outcome == "refuted"]
    assert len(refuted) >= SAMPLE // 3
    assert not [record for record in refuted if record.verdict == "PROVED"]


def test_a_proof_that_leans_on_a_hypothesis_fails_without_it(routine):
    outcome = prove(routine, RELOCATION, search_seconds=0)
    results = [result for finding in outcome.findings for result in finding.results]
    records = list(change_each(results))
    assert {record.label for record in records if record.failing and record.how == DROPPED} >= NEEDED
    # A page that is aligned to half as much, an interrupt that is not masked: too weak.
    weak = {(record.label, record.how) for record in records if record.failing}
    assert {("phys-offset-aligned", BIT), ("daif-masked", BIT)} <= weak


def test_every_error_seeded_into_the_verifier_is_noticed(routine):
    records = list(seed_each(routine, recognise(routine)))
    assert len(records) >= 8
    assert [record.fault for record in records if not record.noticed] == []
