"""What the routine's proof asks of translation tables: folded addresses, and the offset of TTBR1."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from kexec_verify.arm64.lift import SIZE, Code
from kexec_verify.kexec import relocation
from kexec_verify.kexec.abi_variant import AbiVariant, recognise
from kexec_verify.kexec.locate import find_routine
from kexec_verify.prove.discharge import Discharger
from kexec_verify.refute.search import search
from kexec_verify.target import open_target
from kexec_verify.verdict import Verdict

BINARIES = Path(__file__).resolve().parents[3] / "binaries"
PAGE = 1 << 16
MSR_TTBR1_X1 = 0xD518_2021  # msr ttbr1_el1, x1: the zero page, after both values were folded
# asm/assembler.h, offset_ttbr1 of x2: mrs x3, tcr_el1; and x3, x3, #T1SZ; cmp x3, #T1SZ of 48 bits;
# orr x3, x2, #0x1e00; csel x2, x3, x2, eq.
OFFSET_TTBR1 = (0xD538_2043, 0x9270_1463, 0xF144_007F, 0xB277_0C43, 0x9A82_0062)
# orr x1, x1, x1, lsr #46; and x1, x1, #0xfffffffffffc; the same of x2. Each becomes a move to itself.
PLAIN = {
    0xAA41_B821: 0xAA01_03E1,
    0x927E_B421: 0xAA01_03E1,
    0xAA42_B842: 0xAA02_03E2,
    0x927E_B442: 0xAA02_03E2,
}


def words(code: Code) -> list[int]:
    return [int.from_bytes(code.data[i : i + SIZE], "little") for i in range(0, len(code.data), SIZE)]


def assembled(code: Code, changed: list[int]) -> Code:
    return Code(code.name, code.address, b"".join(word.to_bytes(SIZE, "little") for word in changed))


def with_offset(code: Code, *instructions: int) -> Code:
    found = words(code)
    at = found.index(MSR_TTBR1_X1)
    return assembled(code, [*found[:at], *instructions, *found[at:]])


def failing(code: Code, variant: AbiVariant, *names: str) -> set[str]:
    discharger = Discharger()
    required = [o for o in relocation.build(code, variant, discharger.decide) if o.name.startswith(names)]
    assert required
    return {r.obligation.name for r in discharger.discharge(required) if r.verdict is not Verdict.PROVED}


@pytest.fixture
def routine() -> Code:
    found = find_routine(open_target(str(BINARIES / "kimage-mmu-64k-gcc.elf")))
    return Code(found.name, found.address, found.code)


def test_offset_of_52_bit_addresses_is_proved(routine: Code) -> None:
    code = with_offset(routine, *OFFSET_TTBR1)
    variant = recognise(code, PAGE)
    assert variant.offsets_ttbr1 and not variant.unclear
    assert failing(code, variant, "reloc-ttbr1", "reloc-mapped", "reloc-effect") == set()


def test_offset_on_the_other_condition_is_refuted(routine: Code) -> None:
    *others, csel = OFFSET_TTBR1
    code = with_offset(routine, *others, csel | 1 << 12)  # ne for eq
    variant = recognise(code, PAGE)
    assert "reloc-ttbr1-order" in failing(code, variant, "reloc-ttbr1")
    assert {"reloc-break-before-make"} <= set(search(code, variant, {"reloc-break-before-make"}, most=20))


@pytest.mark.parametrize(("folds", "proved"), [(True, False), (False, True), (None, True)])
def test_address_that_is_not_folded(routine: Code, folds: bool | None, proved: bool) -> None:
    changed = [PLAIN.get(word, word) for word in words(routine)]
    assert changed != words(routine)
    code = assembled(routine, changed)
    variant = replace(recognise(code, PAGE), folds_ttbr=folds)
    assert (failing(code, variant, "reloc-ttbr1-order") == set()) is proved


@pytest.mark.parametrize("folds", [True, None])
def test_folded_address_is_proved(routine: Code, folds: bool | None) -> None:
    variant = replace(recognise(routine, PAGE), folds_ttbr=folds)
    assert failing(routine, variant, "reloc-ttbr1-order", "reloc-ttbr1-in-effect") == set()
