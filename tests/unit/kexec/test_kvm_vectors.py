"""KVM's host vectors at EL2: what passes HVC_SOFT_RESTART on is proved, and each fault in it is not."""

from __future__ import annotations

import functools
from array import array
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from kexec_verify.arm64.lift import SIZE
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.kvm_vectors import (
    ANSWERS,
    HostVector,
    StubHandler,
    answers_as_assumed,
    has_kvm,
    is_nameless,
)
from kexec_verify.obligation import Obligation
from kexec_verify.prove.discharge import Discharger
from kexec_verify.specs.hyp_stub import LOWER_EL_SYNC
from kexec_verify.specs.kvm_vectors import HOST_HVC, HOST_VECTORS, PHYSVIRT_OFFSET, STUB_HANDLER
from kexec_verify.target import Kernel, Segment, open_target
from kexec_verify.target.symbols import ListedNames, SymbolTable
from kexec_verify.verdict import Verdict

from tests.obligations import context, of_restart

IMAGE = Path(__file__).resolve().parents[3] / "binaries" / "whole" / "later-4k-gcc.elf"
NOP = 0xD503_201F
TABLE, CALL, HANDLER, WORD = 0, 0x800, 0x900, 0xA00
"""Offsets of the vectors, of the code that they branch to, of the handler and of hyp_physvirt_offset."""


def adr(register: int, distance: int) -> int:
    return 0x1000_0000 | (distance & 3) << 29 | (distance >> 2 & 0x7_FFFF) << 5 | register


def branch(word: int, distance: int) -> int:
    """A conditional branch over ``distance`` bytes."""
    return word | (distance // SIZE & 0x7_FFFF) << 5


VECTOR = (
    0xA9BF_07E0,  # stp x0, x1, [sp, #-16]!
    0xD53C_5200,  # mrs x0, esr_el2
    0xD35A_FC00,  # lsr x0, x0, #26
    0xF100_581F,  # cmp x0, #0x16
    branch(0x5400_0000, CALL - LOWER_EL_SYNC - 16),  # b.eq
    0xD61F_0000,  # br x0
)
PASSING = (
    0xA8C1_07E0,  # ldp x0, x1, [sp], #16
    0xF100_0C1F,  # cmp x0, #3
    branch(0x5400_0002, 24),  # b.hs
    adr(7, HANDLER - CALL - 12),
    adr(6, WORD - CALL - 16),
    0xF940_00C6,  # ldr x6, [x6]
    0x8B06_00E7,  # add x7, x7, x6
    0xD61F_00E0,  # br x7
    0xD61F_0000,  # br x0
)
ANSWERING = (
    0xD51C_4021,  # msr elr_el2, x1
    0xD280_7920,  # mov x0, #0x3c9
    0xD51C_4000,  # msr spsr_el2, x0
    0xAA02_03E0,  # mov x0, x2
    0xAA03_03E1,  # mov x1, x3
    0xAA04_03E2,  # mov x2, x4
    0xD281_0605,  # mov x5, #0x830
    0xD51C_1005,  # msr sctlr_el2, x5
    0xD503_3FDF,  # isb
    0xD69F_03E0,  # eret
)


@functools.cache
def kernel() -> Kernel:
    """A shipped kernel with code at EL2 as KVM has it, behind its last byte."""
    shipped = open_target(str(IMAGE))
    start = (shipped.segments[-1].end + 0xFFFF) & -0x10000
    data = bytearray(WORD + 8)
    for offset, words in ((TABLE + LOWER_EL_SYNC, VECTOR), (CALL, PASSING), (HANDLER, ANSWERING)):
        for number, word in enumerate(words):
            data[offset + SIZE * number : offset + SIZE * (number + 1)] = word.to_bytes(SIZE, "little")
    names = {symbol.name: symbol.address for symbol in shipped.symbols}
    names |= {HOST_VECTORS: start, HOST_HVC: start + CALL, STUB_HANDLER: start + HANDLER}
    names |= {PHYSVIRT_OFFSET: start + WORD}
    sizes = {symbol.name: symbol.size or 0 for symbol in shipped.symbols}
    table = SymbolTable(
        ListedNames(list(names)), array("Q", names.values()), array("Q", [sizes.get(n, 0) for n in names])
    )
    segments = (*shipped.segments, Segment(start, bytes(data)))
    return replace(shipped, segments=segments, symbols=table)


def patched(symbol: str, offset: int, word: int) -> Kernel:
    found = kernel().symbol(symbol)
    assert found is not None
    return kernel().patched(found.address + offset, word.to_bytes(SIZE, "little"))


def obligations(target: Kernel) -> list[Obligation]:
    found: list[Obligation] = []
    for kind in (HostVector, StubHandler):
        proof = kind(context(target))
        proof.prove()
        found += proof.obligations
    return found


def failing(asked: Iterable[Obligation]) -> set[str]:
    results = Discharger().discharge(list(asked))
    return {r.obligation.name for r in results if r.verdict is not Verdict.PROVED}


def test_kvm_passes_the_call_on_and_its_handler_enters_at_el2():
    asked = obligations(kernel())
    assert failing(asked) == set()
    assert {"kvm-vector-passes", "kvm-vector-memory", "kvm-vector-sp", "kvm-vector-keeps"} <= {
        obligation.name for obligation in asked
    }
    assert {"kvm-handler-soft-restart", "kvm-handler-mmu-off", "kvm-handler-synced"} <= {
        obligation.name for obligation in asked
    }


def test_bytes_that_no_hvc_reaches_do_not_count():
    assert failing(obligations(patched(HOST_VECTORS, 0x200, 0xD51C_1000))) == set()


V, C, H = HOST_VECTORS, HOST_HVC, STUB_HANDLER


@pytest.mark.parametrize(
    ("symbol", "offset", "word", "expected"),
    [
        (V, 0x40C, 0xF100_541F, "kvm-vector-passes"),  # cmp x0, #0x15: another exception class
        (V, 0x400, 0xA9BE_07E0, "kvm-vector-memory"),  # stp x0, x1, [sp, #-32]!
        (V, 0x400, 0xA9BF_8BE0, "kvm-vector-sp"),  # stp x0, x2, [sp, #-8]!
        (C, 0x0, 0xA940_07E0, "kvm-vector-passes"),  # ldp x0, x1, [sp]: SP stays lower
        (C, 0x0, 0xA8C1_0BE0, "kvm-vector-passes"),  # ldp x0, x2, [sp], #16
        (C, 0x18, 0x8B05_00E7, "kvm-vector-passes"),  # add x7, x7, x5
        (C, 0x1C, 0xD61F_00C0, "kvm-vector-passes"),  # br x6
        (C, 0xC, 0xD51C_C001, "kvm-vector-effect"),  # msr vbar_el2, x1
        (H, 0x0, 0xD51C_4022, "kvm-handler-effect"),  # msr elr_el2, x2
        (H, 0x0, NOP, "kvm-handler-soft-restart"),
        (H, 0x4, 0xD280_78A0, "kvm-handler-effect"),  # mov x0, #0x3c5: EL1h
        (H, 0x4, 0xD280_3920, "kvm-handler-effect"),  # mov x0, #0x1c9: debug exceptions are not masked
        (H, 0xC, NOP, "kvm-handler-soft-restart"),
        (H, 0x14, 0xAA03_03E2, "kvm-handler-soft-restart"),  # mov x2, x3
        (H, 0x18, 0xD281_0625, "kvm-handler-mmu-off"),  # mov x5, #0x831
        (H, 0x1C, NOP, "kvm-handler-mmu-off"),
        (H, 0x20, NOP, "kvm-handler-synced"),
        (H, 0x20, 0xF900_001F, "kvm-handler-memory"),  # str xzr, [x0]
        (H, 0x24, 0xD61F_0020, "kvm-handler-soft-restart"),  # br x1
    ],
)
def test_a_fault_is_not_proved(symbol: str, offset: int, word: int, expected: str):
    try:
        found = failing(obligations(patched(symbol, offset, word)))
    except UnsupportedError:
        assert expected == "kvm-handler-memory"  # an address that is in no object
        return
    assert expected in found


def test_a_kernel_that_has_kvm_without_its_code_for_el2_is_unsupported():
    shipped = open_target(str(IMAGE))
    assert not has_kvm(shipped)
    names = {"kvm_get_mode": shipped.segments[0].address}
    hidden = replace(shipped, symbols=SymbolTable(ListedNames(list(names)), array("Q", names.values())))
    assert has_kvm(hidden)
    with pytest.raises(UnsupportedError, match=HOST_VECTORS):
        HostVector(context(hidden))


def test_where_kvm_has_no_symbols_its_answer_is_an_assumption():
    assert not is_nameless(kernel())
    assert is_nameless(open_target(str(IMAGE)))
    required = answers_as_assumed()
    assert [label for label, _ in required.hypotheses] == [ANSWERS]
    assert failing([required]) == set()


def test_a_refused_call_enters_at_el1_only_if_its_arguments_are_kept():
    asked = [o for o in of_restart(open_target(str(IMAGE))) if o.name == "restart-refused"]
    assert asked
    assert failing(asked) == set()
    kept = "refused-call-keeps"
    without = [replace(o, hypotheses=tuple(h for h in o.hypotheses if h[0] != kept)) for o in asked]
    assert failing(without) == {"restart-refused"}
