"""The form of each shipped routine is read off its bytes, and what is no routine is refused."""

from __future__ import annotations

import struct

import pytest
from kexec_verify.arm64.lift import Code
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.abi_variant import recognise
from kexec_verify.kexec.locate import find_routine
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.specs.properties import PROPERTIES
from kexec_verify.target import open_target
from kexec_verify.theorems import prove
from kexec_verify.verdict import Verdict

NOP, BR, PAGE = 0xD503201F, 0xD61F03C0, 4096
COUNTER = (NOP, 0xF1000421, 0x54FFFFE1, BR)  # subs x1, x1, #1; b.ne
WALK = (0xF8408420, 0x3617FFE0, BR)  # ldr x0, [x1], #8; tbz w0, #2


def routine(binary) -> Code:
    found = find_routine(open_target(str(binary.path)))
    return Code(found.name, found.address, found.code)


def code(*words: int) -> Code:
    return Code("example", 0x1000, struct.pack(f"<{len(words)}I", *words))


def test_shipped_routine_is_recognised(corpus_binary):
    function = routine(corpus_binary)
    variant = recognise(function)
    assert variant.name == ("kimage" if corpus_binary.variant == "kimage-mmu" else "registers")
    assert variant.page_size == corpus_binary.page_size
    assert (variant.layout is None) == (variant.name == "registers")
    assert len({variant.entry, variant.ptr, variant.dest}) == 3
    assert variant.loop in function.addresses
    assert variant.exits
    assert all(address in function.addresses for address in variant.exits)


def test_layout_is_that_of_struct_kimage(corpus):
    for binary in corpus:
        if binary.variant == "kimage-mmu":
            assert recognise(routine(binary)).layout == KimageLayout(arch=648)


def test_roles_of_one_routine(corpus):
    (binary,) = [b for b in corpus if b.path.name == "kimage-mmu-4k-gcc.elf"]
    variant = recognise(routine(binary))
    assert (variant.entry, variant.ptr, variant.dest) == ("x20", "x21", "x9")


def test_page_size_of_the_header_outranks_that_of_the_code(corpus):
    assert recognise(routine(corpus[0]), 16384).page_size == 16384


def test_layout_moves_with_the_loads(corpus):
    """Linux 6.17 put 128 bytes before the arch fields."""
    (binary,) = [b for b in corpus if b.path.name == "kimage-mmu-4k-gcc.elf"]
    function = routine(binary)
    for address in function.addresses:
        word = function.at(address).word
        if word & 0xFFC003E0 == 0xF9400000 and (word >> 10 & 0xFFF) * 8 >= 648:  # ldr from x0
            function = function.patched(address, word + (128 // 8 << 10))
    assert recognise(function).layout == KimageLayout(arch=648 + 128)


def test_straight_code_is_no_routine():
    with pytest.raises(UnsupportedError, match="routine without a loop over the list at 0x1000"):
        recognise(code(NOP, BR))


def test_code_that_names_no_page_size_is_no_routine():
    with pytest.raises(UnsupportedError, match="routine without a constant that is a page size at 0x1000"):
        recognise(code(*COUNTER))


@pytest.mark.parametrize(
    "words, reason",
    [(COUNTER, "loop that does not read the list"), (WALK, "routine without a loop that copies a page")],
    ids=["counter", "walk"],
)
def test_loop_without_the_roles_of_a_list_is_never_proved(words, reason):
    function = code(*words)
    assert reason in recognise(function, PAGE).unclear
    outcome = prove(function, list(PROPERTIES.values()), PAGE, search_seconds=0)
    assert outcome.findings
    for finding in outcome.findings:
        assert finding.verdict is Verdict.UNSUPPORTED
        assert reason in finding.reason


def test_shipped_routine_has_clear_roles(corpus_binary):
    assert recognise(routine(corpus_binary)).unclear == ""
