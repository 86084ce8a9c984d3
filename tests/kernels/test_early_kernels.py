"""Debian's 5.10, whose machine_kexec flushes the image and copies the routine (before 5.12)."""

from __future__ import annotations

import functools

import pytest
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.layout import layout_before_post_load
from kexec_verify.kexec.list_flush import follows_list
from kexec_verify.kexec.locate import find_routine
from kexec_verify.kexec.machine_kexec import MachineKexec
from kexec_verify.prove.discharge import Discharger, Result, decide
from kexec_verify.target import Kernel, open_target
from kexec_verify.target.debian import in_suite, newest
from kexec_verify.verdict import Verdict

pytestmark = pytest.mark.kernel

SUITE, ARCH = "bullseye", 648


@pytest.fixture(scope="module")
def target(require_tool) -> str:
    require_tool("apt-get", "apt")
    name = newest("5.10", "arm64", SUITE)
    if name is None:
        pytest.skip("the suite holds no linux-image of series 5.10")
    return in_suite(f"debian:{name}", SUITE)


@functools.cache
def opened(target: str) -> Kernel:
    return open_target(target)


def proof_of(kernel: Kernel) -> MachineKexec:
    context = KexecContext(kernel, layout_before_post_load(kernel, ARCH), 4096)
    proof = MachineKexec(context, decide, True, True, find_routine(kernel))
    proof.prove()
    return proof


def failing(proof: MachineKexec, *names: str) -> list[Result]:
    required = [obligation for obligation in proof.obligations if obligation.name in names]
    assert required
    return [r for r in Discharger(10).discharge(required) if r.verdict is not Verdict.PROVED]


# pl-code-clean is not proved yet.
IMAGE = ("pl-copied", "pl-code-fetchable", "pl-list-clean", "pl-segments-clean", "pl-kept")
HANDOVER = ("mk-handover-routine", "mk-inplace-restart", "mk-unreached")


def test_what_machine_kexec_does_to_image_and_routine_is_proved(target: str):
    proof = proof_of(opened(target))
    assert [(r.obligation.name, r.obligation.sentence) for r in failing(proof, *IMAGE, *HANDOVER)] == []
    assert [iterations.head for iterations in proof.iterations if follows_list(iterations.kept)]
