"""The bytes of a counterexample on QEMU's machine: what harms there is seen to die."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from kexec_verify.arm64.lift import Code
from kexec_verify.bare_metal.machine import Machine
from kexec_verify.errors import UsageError
from kexec_verify.kexec.abi_variant import recognise
from kexec_verify.kexec.layout import stated_layout
from kexec_verify.kexec.locate import find_function, find_routine
from kexec_verify.refute.counterexample import Counterexample
from kexec_verify.refute.functions.record import CallCounterexample
from kexec_verify.report.full_system import enter
from kexec_verify.report.replay import Recorded, RecordedCall
from kexec_verify.target import open_target

from tests.conftest import BINARIES, missing

KERNEL = open_target(str(BINARIES / "whole" / "later-4k-gcc.elf"))
MSR_VBAR_EL2 = 0xD51C_C000
NOTHING = SimpleNamespace()


@pytest.fixture(scope="module", autouse=True)
def _machine() -> None:
    try:
        Machine()
    except UsageError as error:
        missing(str(error))


def routine(word: int | None = None) -> Recorded:
    found = find_routine(KERNEL)
    code = Code(found.name, found.address, found.code)
    variant = recognise(code, KERNEL.page_size, stated_layout(KERNEL))
    changed = code if word is None else code.patched(code.address, word)
    return Recorded(cast(Counterexample, NOTHING), changed, variant)


def function(name: str, offset: int = 0, word: int | None = None) -> RecordedCall:
    if name.endswith("vectors"):
        symbol = KERNEL.symbol(name)
        assert symbol is not None
        code = Code(name, symbol.address, KERNEL.read(symbol.address, 0x840))
    else:
        found = find_function(KERNEL, name)
        code = Code(name, found.address, found.code)
    changed = code if word is None else code.patched(code.address + offset, word)
    return RecordedCall(cast(CallCounterexample, NOTHING), changed)


@pytest.mark.parametrize(
    ("sound", "harmed"),
    [
        (routine(), routine(MSR_VBAR_EL2)),
        (function("cpu_soft_restart"), function("cpu_soft_restart", 0, MSR_VBAR_EL2)),
        (function("__hyp_stub_vectors"), function("__hyp_stub_vectors", 0x400, 0xD420_0000)),
    ],
)
def test_harmed_code_dies_and_sound_code_enters(sound, harmed):
    entered, died = enter(sound, 4096), enter(harmed, 4096)
    assert entered is not None and entered.entered
    assert died is not None and not died.entered and died.reason


def test_c_code_has_no_scene():
    assert enter(function("machine_kexec"), 4096) is None
