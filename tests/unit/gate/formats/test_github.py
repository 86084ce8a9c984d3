"""GitHub: workflow commands that the runner reads as one each, and a summary that it does not drop."""

from __future__ import annotations

import re

import pytest
from kexec_verify.gate.formats import github

from .. import examples
from ..examples import claim, decided, refuted, run, undecided

REPORTS = examples.every()
# As the runner reads a line: command, properties, message.
COMMAND = re.compile(r"::(error|warning|notice) ((?:\w+=[^:,\n]*,?)*)::([^\n\r]*)")


def read(text):
    found = []
    for line in text.splitlines():
        match = COMMAND.fullmatch(line)
        assert match, line
        pairs = dict(part.split("=", 1) for part in match[2].split(","))
        found.append((match[1], pairs, match[3]))
    return found


@pytest.mark.parametrize("name", REPORTS)
def test_each_line_is_one_command(name):
    found = read(github.commands(REPORTS[name]))
    assert any(level == "error" for level, _, _ in found) or REPORTS[name].decision.exit_status in (0, 3)
    assert bool([level for level, _, _ in found if level != "notice"]) != REPORTS[name].decision.passed
    assert "##[" not in github.commands(REPORTS[name])


def test_refuted_points_at_its_line():
    ((level, pairs, message),) = read(github.commands(REPORTS["located"]))
    assert (level, pairs["file"], pairs["line"]) == ("error", "arch/arm64/kernel/relocate_kernel.S", "77")
    assert pairs["title"] == "REFUTED%3A claim-refuted"
    assert message.startswith(examples.WHERE)


def test_waived_is_a_notice():
    ((level, pairs, _),) = read(github.commands(REPORTS["waived"]))
    assert (level, pairs["title"]) == ("notice", "REFUTED (waived)%3A claim-waived")


def test_what_the_runner_would_drop_is_counted_and_refuted_come_first():
    many = [undecided(f"claim-u{i}") for i in range(30)] + [refuted(f"claim-r{i}") for i in range(14)]
    found = read(github.commands(decided(run(*many))))
    levels = [level for level, _, _ in found]
    assert levels == ["error"] * 10 + ["warning"] * 10
    assert found[0][1]["title"] == "REFUTED%3A claim-r0"
    assert found[9][2].startswith("5 more")
    assert found[19][2].startswith("21 more")


def test_refutation_comes_before_what_the_gate_says_of_the_rest():
    from kexec_verify.gate.policy import Policy

    shown = decided(run(claim("claim-a"), refuted()), policy=Policy(required=["other"]))
    titles = [pairs["title"] for _, pairs, _ in read(github.commands(shown))]
    assert titles == ["REFUTED%3A claim-refuted", "gate%3A missing"]


def test_summary_stays_within_the_limit_with_the_refuted_first():
    many = [
        undecided(
            f"claim-u{i}",
        )
        for i in range(3000)
    ]
    many = [claim(f"claim-w{i}", reason="ü" * 200, verdict=many[0].verdict) for i in range(6000)]
    shown = decided(run(*many, refuted()))
    text = github.summary(shown)
    assert len(text.encode()) <= github.SUMMARY_LIMIT
    assert text.splitlines()[4].startswith("* refuted: `vmlinux` `claim-refuted`")
    assert re.search(r"\n\d+ lines left out\.\n$", text)


def test_short_summary_is_whole():
    assert "left out" not in github.summary(REPORTS["refuted"])
