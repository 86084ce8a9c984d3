"""Functions that are the same, the same except for addresses, and different."""

from __future__ import annotations

import pytest
from kexec_verify.report.model import FunctionRecord, InstructionRecord
from kexec_verify.sweep.identity import identity

BASE = 0xFFFF_8000_0800_0000
NOP, RET = 0xD503201F, 0xD65F03C0


def record(*words: int, base: int = BASE) -> FunctionRecord:
    listed = [
        InstructionRecord(
            base + 4 * i, word, "", [base + 4 * t for t in then(i, word) if 0 <= t < len(words)]
        )
        for i, word in enumerate(words)
    ]
    return FunctionRecord("f", base, 4 * len(words), "", "", "", 0, {}, {}, "", listed)


def then(at: int, word: int) -> list[int]:
    """Where control goes from the instruction at ``at``: cbz, b and ret are told apart."""
    if word == RET:
        return []
    if word >> 24 == 0xB4:
        return [at + 1, at + (word >> 5 & 0x7FFFF)]
    return [at + (word & 0x3FFFFFF)] if word >> 26 == 0b000101 else [at + 1]


def adrp(register: int, pages: int) -> int:
    return 0x90000000 | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5 | register


def add(target: int, source: int, value: int) -> int:
    return 0x91000000 | value << 10 | source << 5 | target


def ldr(target: int, base: int, offset: int) -> int:
    return 0xF9400000 | offset // 8 << 10 | base << 5 | target


def bl(words: int) -> int:
    return 0x94000000 | words & 0x3FFFFFF


def cbz(register: int, words: int) -> int:
    return 0xB4000000 | (words & 0x7FFFF) << 5 | register


SAME = [
    ("where no branch leads", (RET, adrp(1, 5), add(1, 1, 16), RET), (RET, adrp(1, 9), add(1, 1, 48), RET)),
    ("adrp", (adrp(1, 5), RET), (adrp(1, 9), RET)),
    ("adrp and add", (adrp(1, 5), add(1, 1, 16), RET), (adrp(1, 9), add(1, 1, 48), RET)),
    ("adrp and ldr", (adrp(1, 5), ldr(0, 1, 16), RET), (adrp(1, 9), ldr(0, 1, 48), RET)),
    (
        "behind a branch",
        (adrp(21, 5), cbz(0, 2), NOP, ldr(0, 21, 16)),
        (adrp(21, 9), cbz(0, 2), NOP, ldr(0, 21, 48)),
    ),
    (
        "behind a call that keeps it",
        (adrp(21, 5), bl(100), ldr(0, 21, 16)),
        (adrp(21, 9), bl(99), ldr(0, 21, 48)),
    ),
    ("call", (bl(100), RET), (bl(-100), RET)),
    ("branch outwards", (cbz(0, 50), RET), (cbz(0, 60), RET)),
]
DIFFERENT = [
    ("another register", (adrp(1, 5), RET), (adrp(2, 5), RET)),
    ("add to what is no page", (add(1, 1, 16), RET), (add(1, 1, 48), RET)),
    ("field of a struct", (ldr(0, 1, 16), RET), (ldr(0, 1, 48), RET)),
    (
        "field behind an address",
        (adrp(1, 5), add(1, 1, 16), ldr(0, 1, 8)),
        (adrp(1, 5), add(1, 1, 16), ldr(0, 1, 16)),
    ),
    (
        "a register that was written since",
        (adrp(1, 5), ldr(1, 2, 0), ldr(0, 1, 8)),
        (adrp(1, 5), ldr(1, 2, 0), ldr(0, 1, 16)),
    ),
    (
        "a page on one of two ways",
        (cbz(0, 2), adrp(21, 5), ldr(0, 21, 16)),
        (cbz(0, 2), adrp(21, 5), ldr(0, 21, 48)),
    ),
    (
        "behind a call that loses it",
        (adrp(1, 5), bl(100), ldr(0, 1, 16)),
        (adrp(1, 5), bl(100), ldr(0, 1, 48)),
    ),
    ("branch within", (cbz(0, 2), NOP, RET), (cbz(0, 1), NOP, RET)),
    ("branch within and outwards", (cbz(0, 2), NOP, RET), (cbz(0, 50), NOP, RET)),
    ("call and jump", (bl(100), RET), (bl(100) & 0x7FFFFFFF, RET)),
    ("length", (NOP, RET), (NOP, NOP, RET)),
    ("what is no instruction", (0x00000001, RET), (0x00000002, RET)),
]


@pytest.mark.parametrize(("what", "old", "new"), SAME, ids=[case[0] for case in SAME])
def test_same_but_for_addresses(what, old, new):
    first, second = identity(record(*old)), identity(record(*new, base=BASE + 0x4000))
    assert first.sha256 != second.sha256
    assert first.unplaced == second.unplaced


@pytest.mark.parametrize(("what", "old", "new"), DIFFERENT, ids=[case[0] for case in DIFFERENT])
def test_not_the_same(what, old, new):
    first, second = identity(record(*old)), identity(record(*new))
    assert first.unplaced != second.unplaced


def test_moved_code_is_byte_for_byte_the_same():
    words = (cbz(0, 2), add(1, 1, 16), RET)
    first, second = identity(record(*words)), identity(record(*words, base=BASE + 0x40))
    assert (first.sha256, first.unplaced) == (second.sha256, second.unplaced)
    assert (first.address, first.size) == (BASE, 12)


def test_a_function_that_is_not_listed_has_an_identity():
    assert identity(record()).size == 0
