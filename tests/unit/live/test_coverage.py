"""Every assumption and every assumed contract has a live check, or a stated reason why it has none."""

from __future__ import annotations

from kexec_verify.cli.live import LEVELS, MODES
from kexec_verify.live.coverage import CALLEES, CHECKED, IMPOSSIBLE
from kexec_verify.live.guest import LEVELS as GUEST_LEVELS
from kexec_verify.live.initramfs import COMMANDS
from kexec_verify.specs.assumptions import ASSUMPTIONS
from kexec_verify.specs.contracts import CONTRACTS


def test_every_assumption_is_accounted_for_once():
    assert set(CHECKED) | set(IMPOSSIBLE) == set(ASSUMPTIONS)
    assert not set(CHECKED) & set(IMPOSSIBLE)
    assert all(CHECKED.values()) and all(IMPOSSIBLE.values())


def test_every_assumed_contract_is_accounted_for():
    assert set(CALLEES) == {contract.names[0] for contract in CONTRACTS if contract.assumed}


def test_the_command_offers_what_the_guest_has():
    assert tuple(GUEST_LEVELS) == LEVELS
    assert set(COMMANDS) == set(MODES)
