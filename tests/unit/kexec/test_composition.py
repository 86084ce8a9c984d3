"""The whole kexec path: its parts, that each obligation belongs to a property, and how the parts compose."""

from __future__ import annotations

import functools
import re
from dataclasses import replace

import pytest
from kexec_verify.arm64.lift import Code
from kexec_verify.kexec.abi_variant import recognise
from kexec_verify.kexec.composition import Composition, has_whole_path
from kexec_verify.kexec.locate import find_routine
from kexec_verify.logic import FALSE, Not
from kexec_verify.prove.discharge import Discharger, decide
from kexec_verify.specs.assumptions import ASSUMPTIONS
from kexec_verify.specs.properties import WHOLE_PATH
from kexec_verify.target import open_target
from kexec_verify.theorems import has_obligation
from kexec_verify.verdict import Verdict

STATES = (
    pytest.param("seed-before", marks=pytest.mark.slow),
    pytest.param("seed-after", marks=pytest.mark.slow),
    "later",
)


@functools.cache
def composition(state: str) -> Composition:
    kernel = open_target(f"binaries/whole/{state}-4k-gcc.elf")
    routine = find_routine(kernel)
    variant = recognise(Code(routine.name, routine.address, routine.code))
    found = Composition(kernel, variant, routine, decide)
    found.build()
    return found


@pytest.mark.parametrize("state", STATES)
def test_every_part_is_required_and_none_is_in_trouble(state):
    parts = composition(state).parts
    assert {"machine_kexec", "machine_kexec_post_load", "cpu_soft_restart", "__hyp_stub_vectors", ""} <= set(
        parts
    )
    assert ("trans_pgd_stub_vectors" in parts) == (state == "later")
    assert {name: part.trouble for name, part in parts.items() if part.trouble} == {}
    assert all(part.obligations for part in parts.values())


@pytest.mark.parametrize("state", STATES)
def test_every_obligation_belongs_to_a_property(state):
    found = composition(state)
    about = [claim for claim in WHOLE_PATH if claim.variant in (None, found.variant.name)]
    claims = [claim for claim in about if claim.theorem != "T10"]  # the corpus has nothing of kexec_core
    names = {o.name for part in found.parts.values() for o in part.obligations}
    assert {name for name in names if not any(has_obligation(claim, name) for claim in claims)} == set()
    for claim in claims:
        assert any(has_obligation(claim, name) for name in names), claim.id


@pytest.mark.parametrize("state", STATES)
def test_only_the_relocating_state_before_the_patch_tests_head_in_the_routine(state):
    assert composition(state).variant.tests_head == (state == "seed-before")


@pytest.mark.parametrize("state", STATES)
def test_parts_join_and_each_joint_says_something(state):
    joined = composition(state).parts[""].obligations
    assert joined
    results = Discharger(limit=5).discharge(joined)
    assert {r.verdict for r in results} == {Verdict.PROVED}
    assert not any(r.idle for r in results)
    # Without its hypotheses no obligation of the composition holds, except those that need none.
    bare = Discharger(limit=5).discharge([replace(o, hypotheses=()) for o in joined])
    assert sum(r.verdict is not Verdict.PROVED for r in bare) >= len(bare) - 1


def test_joint_with_a_wrong_goal_is_not_proved():
    for required_ in composition("later").parts[""].obligations:
        assert not decide(required_.hypotheses, Not(required_.goal))
        assert not decide(required_.hypotheses, FALSE)


def test_routine_alone_has_no_way():
    assert not has_whole_path(open_target("binaries/kimage-mmu-4k-gcc.elf"))
    assert has_whole_path(open_target("binaries/whole/later-4k-gcc.elf"))


# What a hypothesis may be that is no assumption. A new kind is put here by someone who has asked
# himself who proves it: a branch, a proved contract or invariant or lemma, a part that another
# proof gives, or the condition under which a goal is asked.
HYPOTHESES = (
    r"branch (not )?taken at 0x[0-9a-f]+",
    r"contract of \w+",
    r"the range is given in order|the linear map shows the range",  # an obligation at every call: call-range
    # invariants: -init and -kept
    r"a segment is left|no more iterations than segments|nothing is lost|earlier segments are clean",
    r"what was (clean|fetchable) is (clean|fetchable)",
    r"x\d+ is the address of the word|no more iterations than list entries",
    r"earlier words of the list are clean",
    # definitions of the list's ghost functions, which hold of any memory
    r"the list starts at head|the list goes on as the list machine does",
    r"progress is a multiple of the stride|the guard held before this iteration|x\d+ has not wrapped",
    # lemmas, each an obligation of its own
    r"sums that do not wrap keep order|its fields are the same",
    r"its line is not (above the loop's last|below the loop's first)",
    r"the loop's (first )?line starts at its pointer|the word's line is whole lines from the first",
    # cases and conditions of goals
    r"head has (no )?IND_DONE|it returns 0|the segment is (not )?that of the last iteration",
    r"the list entry is (not )?that of the last iteration|the word is one of the list or of a source page",
    r"the word is (aligned|in the range|not of the callee's frame|one of a segment|one of the copied code)",
    # what one part of the way gives another, proved there
    r"cpu_soft_restart (asks the stub|enters|turns the MMU off \(restart-mmu-off\))|the stub answers",
    r"daif is handed on \(restart-masked\)|the routine is called with the kimage \(mk-handover-routine\)",
    r"machine_kexec(: interrupts are masked \(mk-masked\)| hands over| keeps SCTLR_EL1 \(mk-sctlr-kept\))",
    r"no context change awaits an ISB \(mk-synced\)",
    r"post_load: phys_offset is that of the linear map \(pl-tables\)",
)


@pytest.mark.parametrize("state", STATES)
def test_every_hypothesis_is_an_assumption_or_proved_elsewhere(state):
    labels = {
        label
        for part in composition(state).parts.values()
        for obligation in part.obligations
        for label, _ in obligation.hypotheses
    }
    known = re.compile("|".join(HYPOTHESES))
    assert {label for label in labels if label not in ASSUMPTIONS and not known.fullmatch(label)} == set()


def test_a_contract_must_be_proved_of_each_function_of_a_name():
    found = replace(composition("later"), contracts=dict(composition("later").contracts))
    name, (address, promised) = next(iter(found.contracts.items()))
    before = dict(found.contracts)
    found._use({name: (address, promised)})
    assert found.contracts == before
    found._use({name: (address + 4, promised)})
    assert found.contracts == {**before, f"{name}@{address + 4:#x}": (address + 4, promised)}
