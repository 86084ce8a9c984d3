"""System instructions against the table that is read from their bits."""

from __future__ import annotations

import pytest
from kexec_verify.arm64 import pointer_authentication
from kexec_verify.arm64 import system as engine
from kexec_verify.arm64.legality import illegal
from kexec_verify.arm64.refused import refused
from kexec_verify.cosim.opcode import check_class
from kexec_verify.cosim.system import disagreement, encoding, sweep
from kexec_verify.cosim.system_table import POINTER_AUTHENTICATION, WAITING, expected, is_system
from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import Function, const

TABLE = {
    0xD50B7E20: "AArch64.DC(X[t], CacheType_Data, CacheOp_CleanInvalidate, CacheOpScope_PoC)",
    0xD5087620: "AArch64.DC(X[t], CacheType_Data, CacheOp_Invalidate, CacheOpScope_PoC)",
    0xD508751F: "AArch64.IC(CacheOpScope_ALLU)",
    0xD508871F: "AArch64.TLBI_VMALL(Regime_EL10, Shareability_NSH)",
    0xD5033F9F: "DataSynchronizationBarrier",
    0xD5033FBF: "DataMemoryBarrier",
    0xD5033FDF: "InstructionSynchronizationBarrier",
    0xD5181000: "AArch64.SysRegWrite",
    0xD5382020: "AArch64.SysRegRead",
    0xD5034FDF: "PSTATE.<D,A,I,F>",
    0xD4000002: "AArch64.CallHypervisor",
    0xD4200000: "AArch64.SoftwareBreakpoint",
    0xD503201F: "Hint_NOP",
    0xD50B7B20: "AArch64.DC(X[t], CacheType_Data, CacheOp_Clean, CacheOpScope_PoU)",
    0xD50B7520: "AArch64.IC(X[t], CacheOpScope_PoU)",
    0xD5384240: "AArch64.SysRegRead",
    0xD5384100: "AArch64.SysRegRead",
    0xD538D080: "AArch64.SysRegRead",
    0xD53CC000: "AArch64.SysRegRead",
    0xD51CC000: "AArch64.SysRegWrite",
    0xD503233F: "AddPACIA(X[30], SP[])",
    0xD50323BF: "AuthIA(X[30], SP[])",
    0xD69F03E0: "AArch64.ExceptionReturn",
}


@pytest.mark.parametrize("word", TABLE, ids=hex)
def test_the_table_names_it_and_the_engine_agrees(word):
    assert is_system(word)
    assert expected(word).name == TABLE[word]
    assert disagreement(word) is None


@pytest.mark.parametrize("number", range(128))
def test_it_agrees_for_every_hint_or_refuses_it(number):
    word = 0xD503_201F | number << 5
    try:
        assert disagreement(word) is None
    except UnsupportedError:
        assert number in POINTER_AUTHENTICATION | WAITING or illegal(word) or refused(word)


@pytest.mark.parametrize(
    "word",
    [
        *(0xD5181000, 0xD5381000, 0xD53B0020, 0xD50B7E20, 0xD5087620, 0xD51B4220),
        *(0xD50B7B20, 0xD50B7520, 0xD5384240, 0xD5384100, 0xD538D080, 0xD53CC000, 0xD51CC000),
    ],
)
def test_it_agrees_for_every_register(word):
    assert [found for rt in range(32) if (found := disagreement(word | rt))] == []


@pytest.mark.parametrize(
    "word",
    [0xD4000001, 0xD4000003, 0xD4400000, 0xD5384000, 0xD5184240, 0xD503231F, 0xD503237F],
    ids=["svc", "smc", "hlt", "mrs spsr_el1", "msr currentel", "paciaz", "pacibsp"],
)
def test_what_the_table_lacks_has_no_meaning(word):
    assert expected(word) is None
    with pytest.raises(UnsupportedError):
        disagreement(word)


def test_a_part_of_the_space_has_no_meaning_that_the_table_lacks():
    swept = sweep(index for index in range(0, 1 << 17) if index % 61 == 0)
    assert swept.mismatches == []
    assert swept.refused > 2000


def test_encodings_number_the_space():
    assert len({encoding(index) for index in range(1 << 17)}) == 1 << 17
    assert all(is_system(encoding(index)) for index in range(0, 1 << 17, 997))


@pytest.mark.parametrize(
    ("event", "other", "word"),
    [
        ("DC_CIVAC", engine.ic_iallu, 0xD50B7E20),
        ("CallHyperVisor", engine.nothing, 0xD4000002),
        ("DataSynchronizationBarrier", engine.hvc, 0xD5033F9F),
    ],
)
def test_a_wrong_effect_on_registers_is_caught(monkeypatch, event, other, word):
    monkeypatch.setitem(engine.MEANING, event, other)
    assert (disagreement(word) is None) == (event == "DC_CIVAC")  # cache state is for the mutants' tests


def test_a_wrong_system_register_is_caught(monkeypatch):
    def write_register(state, name, value):
        return state.with_registers(ttbr0_el1=value)

    monkeypatch.setattr(engine, "write_register", write_register)
    assert "expected sctlr_el1" in disagreement(0xD5181000)


def test_a_lost_event_is_caught(monkeypatch):
    from kexec_verify.arm64.execute import _Run

    monkeypatch.setattr(_Run, "record", lambda self, name, operands: None)
    assert "expected the event" in disagreement(0xD50B7E20)


@pytest.mark.parametrize(
    "word",
    [
        0xD503231F,
        0xD65F0BFF,
        0xD5184240,
        0x7A1F011F,
        0x9180A898,
        0x3212FC03,
        0x545ECB31,
        0xD51B0021,
    ],
    ids=hex,
)
def test_a_refused_encoding_counts_against_the_target_that_uses_it(word):
    assert illegal(word) or refused(word)
    assert check_class([word], 8, 0).unsupported
    assert illegal(0x8B020020) is None and refused(0x8B020020) is None


def test_a_signature_that_forgets_the_stack_pointer_is_caught(monkeypatch):
    def sign(state, at):
        return state.with_registers(x30=Function("signed")(state.registers["x30"], const(0)))

    monkeypatch.setitem(pointer_authentication.MEANING, pointer_authentication.PACIASP, sign)
    assert "expected x30" in disagreement(pointer_authentication.PACIASP)


def test_a_signature_that_is_never_taken_back_is_caught(monkeypatch):
    monkeypatch.setitem(
        pointer_authentication.MEANING, pointer_authentication.AUTIASP, lambda state, at: state
    )
    assert "expected x30" in disagreement(pointer_authentication.AUTIASP)
