"""What `verify live` exits with."""

from __future__ import annotations

import pytest
from kexec_verify.cli.live import exit_status
from kexec_verify.report.live_model import SCHEMA, CheckRecord, Configuration, LiveRun, Seen


def live(outcomes: list[str], seen: Seen) -> LiveRun:
    check = CheckRecord("machine-quiet", "where machine_kexec is entered", seen, "")
    made = [
        Configuration("el1", "load", "cortex-a57", outcome, "", [check], [], None, 1, 1, "")
        for outcome in outcomes
    ]
    return LiveRun(SCHEMA, "kexec-verify", "", "k", "k", "0" * 64, "6.1", {}, "", made)


@pytest.mark.parametrize(
    ("outcomes", "seen", "status"),
    [
        (["entered", "entered"], Seen.HELD, 0),
        (["entered"], Seen.FALSE, 1),
        (["died"], Seen.HELD, 1),
        (["stopped", "died"], Seen.HELD, 1),
        (["entered", "stopped"], Seen.UNTESTED, 3),
        ([], Seen.HELD, 3),
    ],
)
def test_only_a_guest_that_enters_with_nothing_false_is_green(outcomes, seen, status):
    assert exit_status(live(outcomes, seen)) == status
