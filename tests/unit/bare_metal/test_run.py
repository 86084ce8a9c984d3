"""What the bare machine says of sound code, and of code that dies there."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from kexec_verify.bare_metal.machine import Machine
from kexec_verify.bare_metal.run import Outcome, enter_restart, enter_routine, enter_stub
from kexec_verify.errors import UsageError
from kexec_verify.kexec.locate import find_function, find_routine
from kexec_verify.target import Kernel, open_target

from tests.conftest import BINARIES, missing

ARCH = 648  # of struct kimage in the shipped binaries
NOP = 0xD503_201F


def shipped() -> Kernel:
    return open_target(str(BINARIES / "whole" / "later-4k-gcc.elf"))


KERNEL = shipped()
ROUTINE = find_routine(KERNEL).code
RESTART = find_function(KERNEL, "cpu_soft_restart").code


def vectors() -> bytes:
    symbol = KERNEL.symbol("__hyp_stub_vectors")
    assert symbol is not None
    return KERNEL.read(symbol.address, 0x840)


STUB = vectors()


def patched(code: bytes, **words: int) -> bytes:
    """``code`` with words written at offsets, which are named like ``at_0x40``."""
    found = bytearray(code)
    for name, word in words.items():
        struct.pack_into("<I", found, int(name.removeprefix("at_"), 16), word)
    return bytes(found)


def replaced(code: bytes, offset: int, *words: int) -> bytes:
    packed = struct.pack(f"<{len(words)}I", *words)
    return code[:offset] + packed + code[offset + len(packed) :]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    try:
        made = Machine()
    except UsageError as error:
        missing(str(error))
    with made:
        yield made


def routine(code: bytes, machine: Machine, el2: bool = False) -> Outcome:
    return enter_routine(code, ARCH, el2=el2, stub=STUB if el2 else None, machine=machine)


@pytest.mark.parametrize("el2", [False, True])
def test_sound_routine_enters(machine, el2):
    outcome = routine(ROUTINE, machine, el2)
    assert outcome.entered, outcome.reason
    assert outcome.reason == f"the entry is reached at EL{2 if el2 else 1}"


def test_sound_restart_code_enters(machine):
    assert enter_restart(RESTART, stub=STUB, machine=machine).entered


def test_sound_stub_enters(machine):
    assert enter_stub(STUB, machine=machine).entered


@pytest.mark.parametrize("page_size", [4096, 16384, 65536])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_shipped_routines_of_each_page_size_enter(page_size, compiler):
    name = f"kimage-mmu-{page_size >> 10}k-{compiler}.elf"
    code = find_routine(open_target(str(BINARIES / name))).code
    try:
        outcome = enter_routine(code, ARCH, page_size)
    except UsageError as error:
        missing(str(error))
    assert outcome.entered, outcome.reason


def test_verdict_does_not_depend_on_what_ran_before(machine):
    for code in (ROUTINE, replaced(ROUTINE, 0, NOP), ROUTINE, replaced(ROUTINE, 0, 0x1400_0000), ROUTINE):
        assert routine(code, machine).entered is (code == ROUTINE)


# Faults of the routine: offset, words, what the reason must say.
FAULTS = {
    # The load of phys_offset moves behind msr ttbr1_el1 to the zero page; its place is a nop.
    "load under the zero page": (
        patched(ROUTINE, at_0x10=NOP, at_0x4c=0xF941_5C19),
        "data abort is taken to EL1 (vector 4) from routine+0x4c: ESR 0x96000005",
    ),
    "MMU off before the loop": (
        replaced(ROUTINE, 0x24, 0xD2A6_0A03, 0xD518_1003, 0xD503_3FDF, NOP, NOP),
        "from routine+",
    ),
    "ldtr of a kimage field": (
        patched(ROUTINE, at_0x0=0xF840_0814),
        "data abort is taken to EL1 (vector 4) from routine+0x0: ESR 0x9600000f",
    ),
    "register of EL2": (
        patched(ROUTINE, at_0x38=0xD51C_C000),
        "undefined instruction is taken to EL1 (vector 4) from routine+0x38",
    ),
    "load before the ISB of the zero page": (patched(ROUTINE, at_0x44=0xF941_5C19), "data abort"),
    "TTBR0 without the code": (patched(ROUTINE, at_0x38=0xD518_201F), "hangs"),
    "load through SP": (patched(ROUTINE, at_0x38=0xF940_03E1), "data abort"),
    "msr daifclr": (patched(ROUTINE, at_0x38=0xD503_4FFF), "DAIF = 0x0"),
    "SCTLR with SA": (patched(ROUTINE, at_0xe4=0xD281_0105), "SCTLR_EL1 = 0x30500808"),
    "brk": (patched(ROUTINE, at_0x38=0xD420_0000), "BRK"),
    "svc": (patched(ROUTINE, at_0x38=0xD400_0001), "SVC"),
    "hvc without a stub": (patched(ROUTINE, at_0x38=0xD400_0002), "HVC is taken to EL2"),
    "smc": (patched(ROUTINE, at_0x38=0xD400_0003), "to EL2"),
    "endless loop": (patched(ROUTINE, at_0x38=0x1400_0000), "the run hangs at routine+0x38"),
    "wfi": (patched(ROUTINE, at_0x38=0xD503_207F), "the run hangs at routine+0x3c"),
    "x3 at the entry": (patched(ROUTINE, at_0x120=NOP), "x3 = "),
    "another entry": (patched(ROUTINE, at_0x124=0xD61F_02E0), "undefined instruction"),
    "a word that is not copied": (patched(ROUTINE, at_0x84=NOP), "a copied page, "),
    "a destination one page on": (
        patched(ROUTINE, at_0xc8=0x9140_0549),
        "the entry is reached with a copied page",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faulty_routine_does_not_enter(name, machine):
    code, told = FAULTS[name]
    outcome = routine(code, machine)
    assert not outcome.entered
    assert told in outcome.reason


def test_page_beside_a_destination_is_looked_at(machine):
    # str x9, [x9] once the last page is copied: the first word behind it.
    outcome = routine(patched(ROUTINE, at_0xd4=0xF900_0129), machine)
    assert not outcome.entered
    assert "a page that nothing is copied to" in outcome.reason


def test_hvc_of_the_routine_reaches_the_stub(machine):
    outcome = routine(patched(ROUTINE, at_0xfc=0xD280_0060), machine, el2=True)
    assert not outcome.entered


def test_faulty_restart_code_does_not_enter(machine):
    with_sa = enter_restart(patched(RESTART, at_0x4=0xD281_0109), machine=machine)
    assert "SCTLR_EL1 = 0x30500808" in with_sa.reason
    assert "instruction abort" in enter_restart(patched(RESTART, at_0x10=NOP), machine=machine).reason
    load = enter_restart(patched(RESTART, at_0x0=0xF940_03E9), machine=machine)
    assert "data abort" in load.reason
    assert not enter_restart(patched(RESTART, at_0x1c=0xD280_0000), stub=STUB, machine=machine).entered


def test_stub_that_opens_interrupts_does_not_enter(machine):
    # The vector of a lower EL: msr daifclr, #15, then the branch to the handler.
    opens = patched(STUB, at_0x400=0xD503_4FFF, at_0x404=0x1400_00FF)
    for outcome in (
        enter_stub(opens, machine=machine),
        enter_restart(RESTART, stub=opens, machine=machine),
        enter_routine(ROUTINE, ARCH, el2=True, stub=opens, machine=machine),
    ):
        assert not outcome.entered
        assert "DAIF = 0x0" in outcome.reason


def test_stub_that_sets_no_vectors_is_told(machine):
    outcome = enter_stub(patched(STUB, at_0x820=NOP), machine=machine)
    assert not outcome.entered


def test_stub_is_needed_for_a_run_through_it():
    with pytest.raises(ValueError, match="stub"):
        enter_routine(ROUTINE, ARCH, el2=True)


def test_missing_qemu_is_told(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="qemu-system-arm"):
        Machine()


def test_code_that_switches_the_machine_off_is_told(machine):
    # movz x0, #0x8400, lsl #16; movk x0, #8; smc #0: PSCI's SYSTEM_OFF, by EL2.
    outcome = enter_stub(replaced(STUB, 0x400, 0xD2B0_8000, 0xF280_0100, 0xD400_0003), machine=machine)
    assert "hangs" in outcome.reason
    assert enter_stub(STUB, machine=machine).entered
