"""Loads of machine_kexec at physical addresses, as a check of kCFI makes them, through what TTBR0 names."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from kexec_verify.arm64.lift import Code
from kexec_verify.kexec import low_memory
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.machine_kexec import MachineKexec
from kexec_verify.obligation import Obligation
from kexec_verify.prove.discharge import Discharger, decide
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.target import Kernel, open_target
from kexec_verify.verdict import Verdict

IMAGE = Path(__file__).resolve().parents[3] / "binaries" / "whole" / "later-4k-gcc.elf"
NOP, ISB = 0xD503201F, 0xD5033FDF
BEFORE_BLR = {"the routine's page": -4, "the idmap's text": -8}  # instructions that set an argument alone
LDUR, LDR, STR = 0xB8400010, 0xB9400010, 0xB9000010  # ldur, ldr and str of w16
PAGE = 4096


@functools.cache
def opened() -> Kernel:
    return open_target(str(IMAGE))


def calls(code: Code) -> dict[str, tuple[int, int]]:
    """Address and register of the call of the routine, and of the restart code."""
    found = [at for at in code.addresses if code.at(at).word & 0xFFFFFC1F == 0xD63F0000]
    restart, routine = sorted(found)
    register = [code.at(at).word >> 5 & 31 for at in (routine, restart)]
    return {"the routine's page": (routine, register[0]), "the idmap's text": (restart, register[1])}


def loads(name: str, word: int, offset: int, *further: tuple[int, int]) -> list[Obligation]:
    """Obligations of machine_kexec with an access to what is called there, before the call.

    :param further: other instructions that are replaced: how far from the call, and the word.
    """
    kernel = opened()
    at, register = calls(KexecContext(kernel, KimageLayout(648), PAGE).code("machine_kexec"))[name]
    place = offset // 4 << 10 if word in (LDR, STR) else (offset & 0x1FF) << 12
    kernel = kernel.patched(at + BEFORE_BLR[name], (word | register << 5 | place).to_bytes(4, "little"))
    for distance, other in further:
        assert kernel.read(at + distance, 4) == ISB.to_bytes(4, "little")
        kernel = kernel.patched(at + distance, other.to_bytes(4, "little"))
    proof = MachineKexec(KexecContext(kernel, KimageLayout(648), PAGE), decide, False, False)
    proof.prove()
    return proof.obligations


def verdicts(obligations: list[Obligation], kind: str) -> set[Verdict]:
    asked = [obligation for obligation in obligations if obligation.name == kind]
    assert asked
    return {result.verdict for result in Discharger().discharge(asked)}


HARMLESS = [
    ("the routine's page", "mk-handover-mapped", LDR, 0),
    ("the idmap's text", "mk-inplace-mapped", LDR, 0),
]
FAULTS = [
    ("the routine's page", "mk-handover-mapped", LDUR, -4),  # kCFI's check of a physical address
    ("the routine's page", "mk-handover-mapped", LDR, PAGE),
    ("the idmap's text", "mk-inplace-mapped", LDR, 0x100),
]


@pytest.mark.parametrize(("name", "kind", "word", "offset"), HARMLESS)
def test_a_load_of_what_the_table_maps_is_proved(name, kind, word, offset):
    assert verdicts(loads(name, word, offset), kind) == {Verdict.PROVED}


@pytest.mark.parametrize(("name", "kind", "word", "offset"), FAULTS)
def test_a_load_beside_what_the_table_maps_is_not(name, kind, word, offset):
    assert verdicts(loads(name, word, offset), kind) != {Verdict.PROVED}


def test_a_load_before_the_table_is_in_effect_is_not():
    found = loads("the routine's page", LDR, 0, (-12, NOP))
    assert verdicts(found, "mk-handover-mapped") != {Verdict.PROVED}


def test_a_store_there_is_not():
    assert verdicts(loads("the routine's page", STR, 0), "mk-store") != {Verdict.PROVED}


def test_the_reason_names_kcfi_where_a_check_begins():
    def begins(*words: int) -> bool:
        data = b"".join(word.to_bytes(4, "little") for word in words)
        return low_memory._checks_type(Code("f", 0x1000, data), 0x1000)

    check = (0xB85FC110, 0x72869F51, 0x72A86BD1, 0x6B11021F, 0x54000040, 0xD4304500, 0xD63F0100)
    assert begins(*check)
    assert not begins(*check[:5], 0xD4210000, 0xD63F0100)  # brk #0x800
    assert not begins(0xB9400110, *check[1:])
