"""Mutants of the functions around the routine, errors in what is C code's, on a small kernel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from kexec_verify.arm64.lift import Code
from kexec_verify.mutate import binary
from kexec_verify.mutate.base import Base, base_of
from kexec_verify.mutate.binary import Mutant, shares
from kexec_verify.mutate.journal import query
from kexec_verify.mutate.kernel_decision import seed_each
from kexec_verify.mutate.kernel_mutants import (
    composition_of,
    prove_changed,
    prove_composition,
    run_changed,
    try_mutant,
)
from kexec_verify.mutate.run import Job, attempt, jobs_of
from kexec_verify.verdict import Verdict

pytestmark = pytest.mark.mutant

TARGET = str(Path(__file__).parents[2] / "binaries" / "whole" / "later-4k-gcc.elf")
NOP = 0xD503201F


@pytest.fixture(scope="module")
def base() -> Base:
    return base_of(TARGET)


def code(base: Base, name: str) -> Code:
    return next(subject.code for subject in base.subjects() if subject.code.name == name)


def test_every_function_of_the_way_is_mutated_where_its_proof_runs_it(base):
    subjects = {subject.code.name: subject for subject in base.subjects()}
    assert set(subjects) == {
        "arm64_relocate_new_kernel",
        "machine_kexec",
        "machine_kexec_post_load",
        "cpu_soft_restart",
        "__hyp_stub_vectors",
        "trans_pgd_stub_vectors",
        "icache_inval_pou",
        "dcache_clean_inval_poc",
        "memcpy",
        "__hyp_set_vectors",
        "is_hyp_nvhe",
        "cpu_do_switch_mm",
        "cpu_set_reserved_ttbr0_nosync",
    }
    for subject in subjects.values():
        assert {m.at for m in binary.mutants(subject.code, subject.addresses)} == set(subject.addresses)


def test_mutants_are_divided_in_proportion():
    assert shares([600, 300, 100], 10) == [6, 3, 1]
    assert shares([3, 2], 10) == [3, 2]
    assert sum(shares([7, 11, 13, 1], 9)) == 9


def test_query_is_of_a_function_and_of_how_it_is_tried(base):
    mutant = binary.sample(code(base, "is_hyp_nvhe"), 1, 1)[0]
    other = replace(mutant, code=Code("another", mutant.code.address, mutant.code.data))
    jobs = [Job(mutant, base.variant, False, TARGET), Job(other, base.variant, False, TARGET)]
    jobs += [Job(mutant, base.variant, True, TARGET), Job(mutant, base.variant, False)]
    assert len({query(job) for job in jobs}) == len(jobs)
    assert query(Job(mutant, base.variant, False, TARGET)) == query(jobs[0])


def test_one_mutant_of_each_function_comes_to_an_end(base):
    """That a PROVED one is shown to be broken would be an InternalError."""
    names = [
        s.code.name for s in base.subjects() if s.code.name not in (base.code.name, "__hyp_stub_vectors")
    ]
    work = jobs_of(base, TARGET, dict.fromkeys(names, 1), len(names), seed=5, share=1)
    assert [job.mutant.code.name for job in work] == names
    records = [attempt(job) for job in work]
    assert {record.outcome for record in records} <= {"refuted", "equivalent", "unsupported", "survivor"}
    assert sum(record.outcome == "refuted" for record in records) >= 4
    assert all(record.verdict != "PROVED" for record in records if record.outcome == "refuted")


# Each was PROVED before what it breaks had an obligation.
BROKEN = {
    "a callee is given a pointer to nothing": ("machine_kexec", "adrp x1", 1 << 23, False),
    "lines below the range are maintained": ("dcache_clean_inval_poc", "neg x6, x2", 1 << 30, True),
    "the code goes to another page": ("machine_kexec_post_load", "ldr x19, [x20, #0x20]", 1, True),
    "struct pages have another size": ("machine_kexec_post_load", "lsr x19, x19, #0x6", 1 << 19, True),
    "struct pages stand elsewhere": ("machine_kexec_post_load", "add x19, x19, x1", None, True),
    "part of the linear map is copied": ("machine_kexec_post_load", "orr x3, xzr, #-0x8", 1 << 16, True),
    "pages are taken by another function": ("machine_kexec_post_load", "add x0, x0, #0xa44", 1 << 14, True),
    "post_load loses its caller's registers": ("machine_kexec_post_load", "ldp x19, x20, [sp", None, True),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_what_mutants_found_is_not_proved(base, fault):
    name, text, flip, shown = BROKEN[fault]
    unchanged = code(base, name)
    at = [at for at in unchanged.addresses if unchanged.at(at).text.startswith(text)][-1]
    word = NOP if flip is None else unchanged.at(at).word ^ flip
    changed = unchanged.patched(at, word)
    assert bool(run_changed(base, changed)) is shown
    assert prove_changed(base, changed) is not Verdict.PROVED


def test_fault_of_a_loops_later_iteration_is_searched_with_the_calls_of_earlier_iterations(base):
    unchanged = code(base, "machine_kexec_post_load")
    at = [at for at in unchanged.addresses if unchanged.at(at).text == "ldr x0, [x20, #0x38]"][-1]
    composition, refused = composition_of(base, unchanged.patched(at, unchanged.at(at).word ^ 4))  # to x4
    assert not refused
    assert prove_composition(base, composition, [], search=True).effect


def test_run_of_a_broken_function_is_a_refutation_and_asks_no_prover(base):
    unchanged = code(base, "cpu_soft_restart")
    (at,) = (at for at in unchanged.addresses if unchanged.at(at).text == "mov x1, x3")
    changed = unchanged.patched(at, NOP)
    tried = try_mutant(base, changed)
    assert tried.verdict is None and "the entry is reached with the arguments" in tried.effect
    record = attempt(Job(Mutant("deletion", at, "", changed), base.variant, True, TARGET))
    assert record.outcome == "refuted" and record.verdict == "UNKNOWN"


def test_every_error_seeded_into_what_is_c_codes_is_noticed(base):
    records = list(seed_each(base))
    assert len(records) >= 8
    assert [record.fault for record in records if not record.noticed] == []
