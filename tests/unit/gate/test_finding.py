"""What is not proved, with the place that is to blame."""

from __future__ import annotations

import msgspec
from kexec_verify.gate.finding import findings
from kexec_verify.report.status import WHOLE_PATH_TARGET, Level

from .examples import ROUTINE, WHERE, claim, function, refuted, run, undecided, waived

BASE = 0xFFFF800008000000


def test_the_worst_comes_first_and_the_proved_not_at_all():
    found = findings([run(waived(), undecided(), claim("claim-a"), refuted())])
    assert [finding.level for finding in found] == [Level.ERROR, Level.WARNING, Level.NOTE]


def test_place_is_told_once():
    (finding,) = findings([run(refuted())])
    assert finding.where == WHERE
    assert finding.message == "when SCTLR_EL1 is written: expected clean, found dirty"


def test_place_of_what_is_undecided_is_that_of_the_failing_obligation():
    (finding,) = findings([run(undecided())])
    assert finding.where == f"{ROUTINE}+0x10/0x120"


def test_without_an_instruction_the_function_stands_for_it():
    (alone,) = findings([run(undecided(), functions=[function()])])
    lost = msgspec.structs.replace(undecided(), obligations=[])
    (finding,) = findings([run(lost)])
    (several,) = findings([run(lost, functions=[function(), function("machine_kexec")])])
    (named,) = findings([run(msgspec.structs.replace(lost, function="machine_kexec"))])
    assert (alone.function, finding.where) == (ROUTINE, ROUTINE)
    assert several.where == WHOLE_PATH_TARGET
    assert named.where == "machine_kexec"
