"""The whole way: its parts, that each obligation belongs to a property, and how the parts join."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest

from specs.properties import WAY
from verify.arm64.lift import Code
from verify.kexec.form import recognise
from verify.kexec.locate import find_routine
from verify.kexec.way import Way, has_way
from verify.logic import FALSE, Not
from verify.prove.discharge import Discharger, decide
from verify.target import open_target
from verify.theorems import owed
from verify.verdict import Verdict

STATES = ("seed-before", "seed-after", "later")


@functools.cache
def way(state: str) -> Way:
    kernel = open_target(f"binaries/whole/{state}-4k-gcc.elf")
    routine = find_routine(kernel)
    form = recognise(Code(routine.name, routine.address, routine.code))
    found = Way(kernel, form, routine, decide)
    found.build()
    return found


@pytest.mark.parametrize("state", STATES)
def test_every_part_is_owed_and_none_is_in_trouble(state):
    parts = way(state).parts
    assert {"machine_kexec", "machine_kexec_post_load", "cpu_soft_restart", "__hyp_stub_vectors", ""} <= set(
        parts
    )
    assert ("trans_pgd_stub_vectors" in parts) == (state == "later")
    assert {name: part.trouble for name, part in parts.items() if part.trouble} == {}
    assert all(part.obligations for part in parts.values())


@pytest.mark.parametrize("state", STATES)
def test_every_obligation_belongs_to_a_property(state):
    found = way(state)
    claims = [claim for claim in WAY if claim.form in (None, found.form.name)]
    names = {o.name for part in found.parts.values() for o in part.obligations}
    assert {name for name in names if not any(owed(claim, name) for claim in claims)} == set()
    for claim in claims:
        assert any(owed(claim, name) for name in names), claim.id


@pytest.mark.parametrize("state", STATES)
def test_only_the_relocating_state_before_the_patch_tests_head_in_the_routine(state):
    assert way(state).form.tests_head == (state == "seed-before")


@pytest.mark.parametrize("state", STATES)
def test_parts_join_and_each_joint_says_something(state):
    joined = way(state).parts[""].obligations
    assert joined
    results = Discharger(limit=5).discharge(joined)
    assert {r.verdict for r in results} == {Verdict.PROVED}
    assert not any(r.idle for r in results)
    # A joint without its hypotheses is no theorem, but for those that hold by themselves.
    bare = Discharger(limit=5).discharge([replace(o, hypotheses=()) for o in joined])
    assert sum(r.verdict is not Verdict.PROVED for r in bare) >= len(bare) - 1


def test_joint_with_a_wrong_goal_is_not_proved():
    for owed_ in way("later").parts[""].obligations:
        assert not decide(owed_.hypotheses, Not(owed_.goal))
        assert not decide(owed_.hypotheses, FALSE)


def test_routine_alone_has_no_way():
    assert not has_way(open_target("binaries/kimage-mmu-4k-gcc.elf"))
    assert has_way(open_target("binaries/whole/later-4k-gcc.elf"))
