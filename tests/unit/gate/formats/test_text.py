"""The terminal's text and the JSON: the decision and its reasons come first, what to type comes last."""

from __future__ import annotations

import json as plain_json

import pytest
from kexec_verify.gate.formats import FORMATS, json, text

from .. import examples

REPORTS = examples.every()


@pytest.mark.parametrize("name", REPORTS)
def test_decision_first_command_last(name):
    decision = REPORTS[name].decision
    lines = text.render(REPORTS[name]).splitlines()
    assert lines[0].startswith("gate: passed: " if decision.passed else "gate: failed (")
    shown = [line for line in lines[1 : lines.index("")] if line.startswith("  ")]
    assert len(shown) == len(decision.reasons)
    assert lines[-1].startswith("next: verify ") != decision.passed


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("refuted", "verify replay reports/vmlinux/run.json"),
        ("undecided", "verify show claim-v --reports reports"),
        ("incomplete", "verify run /boot/vmlinux --reports reports"),
        ("error", "verify run /boot/vmlinux --reports reports"),
    ],
)
def test_next_command(name, command):
    assert text.render(REPORTS[name]).splitlines()[-1] == f"next: {command}"


def test_waived_is_counted_apart_and_never_as_proved():
    lines = text.render(REPORTS["waived"]).splitlines()
    assert lines[0] == "gate: passed: 1 PROVED, 1 REFUTED (waived)"
    assert any(line.split() == ["claim-waived", "REFUTED", "(waived)"] for line in lines)


@pytest.mark.parametrize("name", REPORTS)
def test_json_has_the_decision(name):
    found = plain_json.loads(json.render(REPORTS[name]))
    decision = REPORTS[name].decision
    assert (found["passed"], found["exit_status"]) == (decision.passed, decision.exit_status)
    assert len(found["reasons"]) == len(decision.reasons)
    assert sum(found["counts"].values()) == len(REPORTS[name].properties)


@pytest.mark.parametrize("name", FORMATS)
def test_hostile_names_show_in_no_format(name):
    shown = FORMATS[name](REPORTS["hostile"])
    assert not [c for c in shown if not c.isprintable() and c != "\n"]
    if name != "json":  # whose strings are escaped by JSON, for a reader that wants them as they are
        assert "\n::error::y" not in shown
