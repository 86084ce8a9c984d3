"""Harmful instructions in C code, in the place of a hint or of a call of printk."""

from __future__ import annotations

import pytest
from kexec_verify.arm64.lift import SIZE
from kexec_verify.kexec.locate import Function, find_routine
from kexec_verify.mutate.c_code import KIND, REFUSED, Subject, attempts, mutants, subjects
from kexec_verify.mutate.insertion import HARMFUL
from kexec_verify.mutate.second_judge import context_of
from kexec_verify.prove.discharge import decide
from kexec_verify.target import Kernel, open_target

from tests.conftest import BINARIES

NOP = (0xD503_201F).to_bytes(SIZE, "little")
HARMLESS = ("clrex",)
"""Of HARMFUL what a reader found to do no harm at such a place."""


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return open_target(str(BINARIES / "whole" / "later-4k-gcc.elf"))


@pytest.fixture(scope="module")
def routine(kernel: Kernel) -> Function:
    return find_routine(kernel)


@pytest.fixture(scope="module")
def found(kernel: Kernel, routine: Function) -> list[Subject]:
    return subjects(context_of(kernel, routine), routine, decide)


def test_places_are_hints_and_calls_of_printk(found):
    assert [subject.code.name for subject in found] == ["machine_kexec", "machine_kexec_post_load"]
    for subject in found:
        assert subject.places
        assert {len(place) for place in subject.places} <= {1, 3}
        for place in subject.places:
            last = subject.code.at(place[-1])
            assert last.call_target is not None if len(place) == 3 else last.word >> 12 == 0xD5032


def test_mutant_has_one_harmful_instruction_and_nops(found):
    for subject in found:
        made = list(mutants(subject))
        assert len(made) == len(subject.places) * len(HARMFUL)
        for (_, data), (word, text) in zip(made, HARMFUL * len(subject.places), strict=True):
            words = [data[at : at + SIZE] for at in range(0, len(data), SIZE)]
            before = [subject.code.data[at : at + SIZE] for at in range(0, len(data), SIZE)]
            changed = [now for now, old in zip(words, before, strict=True) if now != old]
            assert word.to_bytes(SIZE, "little") in changed, text
            assert set(changed) <= {word.to_bytes(SIZE, "little"), NOP}


@pytest.mark.slow
def test_no_harmful_instruction_is_proved(kernel, routine):
    records = attempts(kernel, routine, 40, seed=11)
    assert len(records) == 40 and {record.kind for record in records} == {KIND}
    assert {r.edit.partition(": ")[2] for r in records if r.result != REFUSED} <= set(HARMLESS)
