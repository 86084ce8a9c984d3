"""Debian's 5.10, whose machine_kexec flushes the image and copies the routine (before 5.12)."""

from __future__ import annotations

import functools

import pytest
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.layout import layout_before_post_load
from kexec_verify.kexec.list_flush import follows_list
from kexec_verify.kexec.locate import find_routine
from kexec_verify.kexec.machine_kexec import NAME, MachineKexec
from kexec_verify.prove.discharge import Discharger, Result, decide
from kexec_verify.refute.functions.search import refute
from kexec_verify.target import Kernel, open_target
from kexec_verify.target.debian import in_suite, newest
from kexec_verify.verdict import Verdict

pytestmark = pytest.mark.kernel

SUITE, ARCH = "bullseye", 648
NOP = 0xD503201F


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


def calls(kernel: Kernel, callee: str) -> list[int]:
    """Addresses of machine_kexec's calls of the function, in order."""
    symbol = kernel.symbol(NAME)
    assert symbol is not None
    code = KexecContext(kernel, layout_before_post_load(kernel, ARCH), 4096).code(NAME)
    found = []
    for at in code.addresses:
        instruction = code.at(at)
        if instruction.call_target is not None and callee in kernel.symbols_at(instruction.call_target):
            found.append(at)
    return found


def proof_of(kernel: Kernel) -> MachineKexec:
    context = KexecContext(kernel, layout_before_post_load(kernel, ARCH), 4096)
    proof = MachineKexec(context, decide, True, True, find_routine(kernel))
    proof.prove()
    return proof


def failing(proof: MachineKexec, *names: str) -> list[Result]:
    required = [obligation for obligation in proof.obligations if obligation.name in names]
    assert required
    return [r for r in Discharger(10).discharge(required) if r.verdict is not Verdict.PROVED]


IMAGE = ("pl-copied", "pl-code-clean", "pl-code-fetchable", "pl-list-clean", "pl-segments-clean", "pl-kept")
HANDOVER = ("mk-handover-routine", "mk-inplace-restart", "mk-unreached")


def test_what_machine_kexec_does_to_image_and_routine_is_proved(target: str):
    proof = proof_of(opened(target))
    assert [(r.obligation.name, r.obligation.sentence) for r in failing(proof, *IMAGE, *HANDOVER)] == []
    assert [iterations.head for iterations in proof.iterations if follows_list(iterations.kept)]


# Which call of a callee does nothing, and what fails then.
FAULTS = {
    "the control page is not flushed": ("__flush_dcache_area", 0, "pl-code-clean"),
    "source pages are not flushed": ("__flush_dcache_area", 2, "pl-list-clean"),
    "stale instructions may be fetched": ("__flush_icache_range", 0, "pl-code-fetchable"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_flush_that_is_left_out_is_refuted_by_a_run(target: str, fault: str):
    callee, number, name = FAULTS[fault]
    kernel = opened(target)
    at = calls(kernel, callee)[number]
    proof = proof_of(kernel.patched(at, NOP.to_bytes(4, "little")))
    found = failing(proof, name)
    assert found
    assert any(refute(proof, result, "a property") is not None for result in found)


def test_a_print_that_is_left_out_changes_nothing(target: str):
    """The print is where the paths join; without it the same is asked at each exit."""
    kernel = opened(target)
    (at,) = calls(kernel, "printk")
    proof = proof_of(kernel.patched(at, NOP.to_bytes(4, "little")))
    assert failing(proof, "pl-code-clean", "mk-handover-routine", "mk-loop-terminates") == []
