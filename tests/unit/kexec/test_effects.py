"""A closed world: what no rule of a function allows is a proof obligation that fails."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

import pytest
from kexec_verify.arm64.lift import SIZE
from kexec_verify.kexec.locate import find_routine
from kexec_verify.kexec.soft_restart import COPIED_VECTORS, VECTORS, HypStub
from kexec_verify.obligation import Obligation
from kexec_verify.prove.discharge import Discharger
from kexec_verify.target import Kernel, open_target
from kexec_verify.verdict import Verdict

from tests.obligations import context, of_machine_kexec, of_post_load, of_restart, of_routine

IMAGE = Path(__file__).resolve().parents[3] / "binaries" / "whole" / "later-4k-gcc.elf"
NOP = 0xD503_201F
MRS_SCTLR_X2, MSR_SCTLR_X2, MSR_SCTLR_XZR, ISB = 0xD538_1002, 0xD518_1002, 0xD518_101F, 0xD503_3FDF


@functools.cache
def opened() -> Kernel:
    return open_target(str(IMAGE))


def patched(name: str, offset: int, *words: int) -> Kernel:
    symbol = opened().symbol(name)
    assert symbol is not None
    data = b"".join(word.to_bytes(SIZE, "little") for word in words)
    return opened().patched(symbol.address + offset, data)


def failing(obligations: Iterable[Obligation], *names: str) -> set[str]:
    asked = [o for o in obligations if o.name in names]
    results = Discharger().discharge(asked)
    return {r.obligation.name for r in results if r.verdict is not Verdict.PROVED}


def of_stub(kernel: Kernel, symbol: str) -> list[Obligation]:
    proof = HypStub(context(kernel), symbol, symbol == COPIED_VECTORS)
    proof.prove()
    return proof.obligations


MACHINE_KEXEC = ("mk-effect", "mk-sp", "mk-unreached", "call-unreached", "mk-synced")
PATCHES = {  # of machine_kexec: offset, words, what fails
    "msr sp_el0, xzr": (0x4, (0xD518_411F,), {"mk-effect"}),
    "msr tpidr_el1, xzr": (0x4, (0xD518_D09F,), {"mk-effect"}),
    "msr vbar_el1, x0": (0x4, (0xD518_C000,), {"mk-effect"}),
    "msr vbar_el2, x0, undefined at EL1": (0x4, (0xD51C_C000,), {"mk-effect"}),
    "dc ivac, x0": (0x4, (0xD508_7620,), {"mk-effect"}),
    "tlbi vae1, x0": (0x4, (0xD508_8720,), {"mk-effect"}),
    "hvc where printk was": (0x48, (0xD280_0020, 0xD280_0001, NOP, 0xD400_0002), {"mk-effect"}),
    "interrupts opened again": (0x68, (0xD503_4FFF,), {"mk-effect"}),
    "MMU off and on": (0x48, (MRS_SCTLR_X2, MSR_SCTLR_XZR, MSR_SCTLR_X2, ISB), {"mk-effect"}),
    "wfi": (0x4, (0xD503_207F,), {"mk-effect"}),
    "ldtr x1, [x0]": (0x4, (0xF840_0801,), {"mk-effect"}),
    "SP not aligned": (0x10, (0xA9BD_FBFD,), {"mk-sp"}),  # stp x29, x30, [sp, #-40]!
    "brk that no table names": (0x84, (0xD420_0020,), {"mk-unreached"}),
    "nothing but nops": (0x4, (NOP, NOP), set()),
}


def test_the_shipped_kernel_has_no_other_effect() -> None:
    assert failing(of_machine_kexec(opened()), *MACHINE_KEXEC) == set()
    assert (
        failing(of_post_load(opened()), "pl-effect", "pl-sp", "pl-unreached", "pl-kimage-kept", "pl-errors")
        == set()
    )
    assert failing(of_restart(opened()), "restart-effect", "restart-keeps", "restart-in-idmap") == set()
    assert failing(of_stub(opened(), VECTORS), "stub-effect", "stub-keeps") == set()


@pytest.mark.parametrize("what", PATCHES)
def test_effects_of_machine_kexec(what: str) -> None:
    offset, words, expected = PATCHES[what]
    assert failing(of_machine_kexec(patched("machine_kexec", offset, *words)), *MACHINE_KEXEC) == expected


POST_LOAD = ("pl-effect", "pl-sp", "pl-returns", "pl-kimage-kept", "pl-errors", "pl-tables")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (MSR_SCTLR_XZR, {"pl-effect", "pl-returns"}),
        (0xD503_4FDF, {"pl-effect", "pl-returns"}),  # msr daifset, #15
        (0xD518_205F, {"pl-effect", "pl-returns"}),  # msr tcr_el1, xzr
        (0xD51C_C000, {"pl-effect"}),  # msr vbar_el2, x0
        (0xF900_0C1F, {"pl-kimage-kept"}),  # str xzr, [x0, #24]: kimage->start
    ],
)
def test_effects_of_post_load(word: int, expected: set[str]) -> None:
    assert expected <= failing(of_post_load(patched("machine_kexec_post_load", 4, word)), *POST_LOAD)


@pytest.mark.parametrize("word", [0xD503_4FFF, 0xD51C_1000, 0xD518_C000, 0xD508_871F])
def test_effects_of_the_stub(word: int) -> None:
    """msr daifclr, #15; msr sctlr_el2, x0; msr vbar_el1, x0; tlbi vmalle1."""
    symbol = opened().symbol("el1_sync")
    assert symbol is not None
    kernel = opened().patched(symbol.address, word.to_bytes(SIZE, "little"))
    assert "stub-effect" in failing(of_stub(kernel, VECTORS), "stub-effect")


@pytest.mark.parametrize(
    ("offset", "word"),
    [
        (0x4, 0xD280_0009),  # mov x9, #0: not the RES1 bits
        (0x8, 0xF2A6_0B09),  # movk x9, #0x3058, lsl #16: WXN besides
        (0x0, 0xD518_2000),  # msr ttbr0_el1, x0
        (0x0, 0xD51C_1000),  # msr sctlr_el2, x0
    ],
)
def test_effects_of_the_restart_code(offset: int, word: int) -> None:
    kernel = patched("cpu_soft_restart", offset, word)
    assert "restart-effect" in failing(of_restart(kernel), "restart-effect")


ROUTINE = ("reloc-effect", "reloc-effect-kept", "reloc-mapped")
MSR_TTBR1_ZERO = 0xD518_2021


def at_word(word: int) -> int:
    found = find_routine(opened())
    words = [int.from_bytes(found.code[i : i + SIZE], "little") for i in range(0, len(found.code), SIZE)]
    return words.index(word) * SIZE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "word", "expected"),
    [
        (0xD508_871F, 0xD518_2000, "reloc-effect"),  # tlbi vmalle1 becomes msr ttbr0_el1, x0
        (0xD508_871F, MSR_SCTLR_XZR, "reloc-effect"),
        (0xD508_871F, 0xF940_0003, "reloc-mapped"),  # ldr x3, [x0] with the zero page in TTBR1
        (0xD508_751F, 0x9100_003F, "reloc-effect-kept"),  # ic iallu becomes mov sp, x1
    ],
)
def test_effects_of_the_routine(place: int, word: int, expected: str) -> None:
    kernel = patched("arm64_relocate_new_kernel", at_word(place), word)
    assert expected in failing(of_routine(kernel), *ROUTINE)
