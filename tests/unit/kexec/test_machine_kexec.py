"""machine_kexec of the shipped images, and with faults before and behind its cutpoint."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.machine_kexec import MachineKexec
from kexec_verify.prove.discharge import Discharger, decide
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.target import Kernel, open_target
from kexec_verify.verdict import Verdict

IMAGE = Path(__file__).resolve().parents[3] / "binaries" / "whole" / "later-4k-gcc.elf"


@functools.cache
def opened() -> Kernel:
    return open_target(str(IMAGE))


def first_call(kernel: Kernel, callee: str) -> int:
    """Where machine_kexec first calls ``callee``."""
    code = KexecContext(kernel, KimageLayout(648), 4096).code("machine_kexec")
    symbol = kernel.symbol(callee)
    assert symbol is not None
    return next(at for at in code.addresses if code.at(at).call_target == symbol.address)


def unproved(kernel: Kernel, *names: str) -> set[str]:
    proof = MachineKexec(KexecContext(kernel, KimageLayout(648), 4096), decide, False, False)
    proof.prove()
    results = Discharger().discharge([o for o in proof.obligations if o.name in names])
    assert {result.obligation.name for result in results} == set(names)
    return {result.obligation.name for result in results if result.verdict is not Verdict.PROVED}


EVENTS = ("mk-inplace-vectors", "mk-translation-order")


def test_what_happens_on_the_way_is_as_it_must_be():
    assert unproved(opened(), *EVENTS) == set()


@pytest.mark.parametrize(
    ("callee", "missed"),
    [("__hyp_set_vectors", "mk-inplace-vectors"), ("cpu_do_switch_mm", "mk-translation-order")],
)
def test_what_happens_before_the_cutpoint_is_required_as_well(callee, missed):
    kernel = opened()
    at = first_call(kernel, "cpus_are_stuck_in_kernel")
    symbol = kernel.symbol(callee)
    assert symbol is not None
    # The instruction before the first call becomes one of its own.
    word = 0x94000000 | (symbol.address - (at - 4)) >> 2 & 0x3FFFFFF
    assert missed in unproved(kernel.patched(at - 4, word.to_bytes(4, "little")), *EVENTS)
