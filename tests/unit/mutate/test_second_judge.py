"""The second judge of mutants: what dies must not be PROVED, and what does is listed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kexec_verify.bare_metal.machine import Machine
from kexec_verify.bare_metal.run import Outcome
from kexec_verify.cli.mutate import _second_judge
from kexec_verify.cli.terminal import Terminal
from kexec_verify.errors import UsageError
from kexec_verify.kexec.locate import Function, find_routine
from kexec_verify.mutate import second_judge as module
from kexec_verify.mutate.second_judge import (
    LIVES,
    REFUSED,
    SURVIVES,
    Prover,
    Record,
    Subject,
    Summary,
    attempt,
    campaign,
    subjects,
)
from kexec_verify.target import Kernel, open_target

from tests.conftest import BINARIES, missing

TARGET = str(BINARIES / "whole" / "later-4k-gcc.elf")
NOP = 0xD503_201F


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return open_target(TARGET)


@pytest.fixture(scope="module")
def routine(kernel: Kernel) -> Function:
    return find_routine(kernel)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    try:
        made = Machine()
    except UsageError as error:
        missing(str(error))
    with made:
        yield made


@pytest.fixture(scope="module")
def found(kernel: Kernel, routine: Function) -> dict[str, Subject]:
    return {subject.name: subject for subject in subjects(kernel, routine, Prover())}


class Believes(Prover):
    """Calls everything PROVED."""

    def refuses(self, build, code) -> str:
        return ""


def changed(subject: Subject, offset: int, word: int) -> bytes:
    return subject.code[:offset] + word.to_bytes(4, "little") + subject.code[offset + 4 :]


def test_routine_restart_code_and_both_stubs_are_changed(found):
    names = ["arm64_relocate_new_kernel", "cpu_soft_restart", "__hyp_stub_vectors", "trans_pgd_stub_vectors"]
    assert list(found) == names
    # Of a table of vectors, only what runs for the calls.
    assert found["__hyp_stub_vectors"].slots[:2] == (0x400, 0x800)


# Function, offset and word of a change, and how it ends.
CHANGES = [
    ("cpu_soft_restart", 0x0, 0xD51C_C000, REFUSED),  # msr vbar_el2, x0
    ("cpu_soft_restart", 0x10, NOP, REFUSED),  # the MMU stays on
    ("cpu_soft_restart", 0x0, NOP, LIVES),
    ("__hyp_stub_vectors", 0x820, NOP, REFUSED),  # no msr vbar_el2
    ("__hyp_stub_vectors", 0x830, 0xD503_4FFF, REFUSED),  # msr daifclr, #15
    ("__hyp_stub_vectors", 0x814, NOP, LIVES),
    ("arm64_relocate_new_kernel", 0x38, 0xD51C_C000, REFUSED),
]


@pytest.mark.parametrize(("name", "offset", "word", "result"), CHANGES)
def test_what_dies_is_not_proved(found, machine, name, offset, word, result):
    subject = found[name]
    record = attempt(subject, "replaced", "", changed(subject, offset, word), machine, Prover())
    assert record.result == result, record
    assert record.words == ((subject.address + offset, word),)
    assert bool(record.refused) is (result == REFUSED)


def test_what_dies_and_is_proved_survives(found, machine):
    subject = found["cpu_soft_restart"]
    code = changed(subject, 0x0, 0xD51C_C000)
    record = attempt(subject, "replaced", "msr vbar_el2, x0", code, machine, Believes())
    assert record.result == SURVIVES
    summary = Summary([record])
    assert summary.survivors == [record]
    assert summary.count("cpu_soft_restart", "replaced", SURVIVES) == 1


def test_hang_of_a_busy_machine_is_no_survivor(found, machine):
    """What is PROVED and hangs is run once more: here it enters then."""
    asked: list[Machine] = []

    def enter(code: bytes, on: Machine) -> Outcome:
        asked.append(on)
        return Outcome(len(asked) > 1, "")

    subject = found["cpu_soft_restart"]
    slow = Subject(subject.name, subject.address, subject.code, subject.slots, enter, subject.build)
    record = attempt(slow, "replaced", "", changed(subject, 0, NOP), machine, Believes())
    assert record.result == LIVES
    assert asked[1] is not machine and asked[1].busy > machine.busy


def test_target_that_dies_unchanged_is_refused(kernel, routine, machine):
    broken = kernel.patched(routine.address, NOP.to_bytes(4, "little"))
    with pytest.raises(UsageError, match=r"expected arm64_relocate_new_kernel to enter"):
        campaign(broken, find_routine(broken), 1, 1)


def test_target_that_is_not_proved_unchanged_is_refused(kernel, routine, machine, monkeypatch):
    monkeypatch.setattr(Prover, "refuses", lambda self, build, code: "it is not")
    with pytest.raises(UsageError, match="to be proved, found: it is not"):
        campaign(kernel, routine, 1, 1)


def test_campaign_divides_the_mutants_and_tells_of_each(kernel, routine, machine, monkeypatch):
    monkeypatch.setattr(Prover, "refuses", lambda self, build, code: "not asked")
    monkeypatch.setattr(module, "_demand_sound", lambda *subject: None)
    told: list[Record] = []
    summary = campaign(kernel, routine, 8, 8, 1, lambda record, done, of: told.append(record))
    assert told == summary.records
    counts = [sum(record.kind == kind for record in told) for kind in module.KINDS]
    assert counts == [5, 3, 8]
    assert {"arm64_relocate_new_kernel", "cpu_soft_restart", "__hyp_stub_vectors"} <= set(summary.functions)
    assert [record.result for record in told if record.result == SURVIVES] == []


def test_command_lists_survivors_and_fails(monkeypatch, capsys, machine):
    survivor = Record("f", "pair", "+0x0 ↔ +0x8", ((0x1000, 0xD420_0000),), SURVIVES, "BRK is taken to EL1")
    for records, status in (([survivor], 1), ([], 0)):
        summary = Summary(list(records))
        monkeypatch.setattr(module, "campaign", lambda *asked, summary=summary: summary)
        assert _second_judge(Terminal(), TARGET, 1, 1, 0, 1) == status
        shown = capsys.readouterr()
        text = shown.out + shown.err
        assert ("0x1000: 0xd4200000" in text) is bool(records)
        assert ("BRK is taken to EL1" in text) is bool(records)


@pytest.mark.slow
def test_no_mutant_that_dies_is_proved(kernel, routine, machine):
    summary = campaign(kernel, routine, 24, 12, 7)
    assert summary.survivors == []
    assert any(record.result == REFUSED for record in summary.records)
