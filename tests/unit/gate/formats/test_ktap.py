"""KTAP is held against a strict reader: binary, function, property, and the gate behind them."""

from __future__ import annotations

import pytest
from kexec_verify.gate.formats import ktap

from .. import examples
from . import ktap_reader

REPORTS = examples.every()


@pytest.mark.parametrize("name", REPORTS)
def test_reader_takes_it_and_agrees_with_the_decision(name):
    tests = ktap_reader.read(ktap.render(REPORTS[name]))
    assert all(test.ok for test in tests) == REPORTS[name].decision.passed
    assert len(tests) == len(REPORTS[name].runs) + 1


def properties(name):
    (binary, _) = ktap_reader.read(ktap.render(REPORTS[name]))
    (function,) = binary.subtests
    assert function.name == examples.ROUTINE
    return {test.name: test for test in function.subtests}


def test_proved():
    assert {name: (test.ok, test.note) for name, test in properties("proved").items()} == {
        "claim-a": (True, ""),
        "claim-b": (True, ""),
    }


def test_refuted_says_where():
    test = properties("refuted")["claim-refuted"]
    assert (test.ok, test.note) == (False, "REFUTED")
    (detail,) = test.diagnostics
    assert detail.startswith(f"vmlinux: {examples.WHERE}: when SCTLR_EL1 is written")


def test_undecided_is_not_ok():
    found = properties("undecided")
    assert (found["claim-undecided"].ok, found["claim-undecided"].note) == (False, "ERROR UNKNOWN")
    assert (found["claim-v"].ok, found["claim-v"].note) == (False, "ERROR VACUOUS")


def test_waived_is_skipped_and_neither_passed_nor_failed():
    test = properties("waived")["claim-waived"]
    assert (test.ok, test.skipped, test.note) == (True, True, "SKIP REFUTED (waived)")


@pytest.mark.parametrize("name", ["incomplete", "empty"])
def test_run_that_is_not_whole_is_not_ok(name):
    binary = ktap_reader.read(ktap.render(REPORTS[name]))[0]
    assert not binary.ok
    assert binary.note.startswith("ERROR ")


def test_regression_fails_in_the_gate_test():
    gate = ktap_reader.read(ktap.render(REPORTS["hostile"]))[-1]
    assert [test.name.split()[0] for test in gate.subtests] == ["refuted", "waiver", "undecided"]


@pytest.mark.parametrize(
    "text",
    [
        "1..1\nok 1 a\n",
        "KTAP version 1\nok 1 a\n",
        "KTAP version 1\n1..2\nok 1 a\n",
        "KTAP version 1\n1..1\nok 2 a\n",
        "KTAP version 1\n1..1\nok 1 a\nok 2 b\n",
        "KTAP version 1\n1..1\nnoise\nok 1 a\n",
        "KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  not ok 1 b\nok 1 a\n",
    ],
)
def test_reader_is_strict(text):
    with pytest.raises(ValueError):
        ktap_reader.read(text)
