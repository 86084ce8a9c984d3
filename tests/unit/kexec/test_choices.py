"""The variants of a function that boot makes of it, and what they are called."""

from __future__ import annotations

import struct
from array import array

import pytest
from kexec_verify.arm64.lift import Code
from kexec_verify.errors import LimitError, UnsupportedError
from kexec_verify.kexec.choices import key_name, sanitised_ctr, variants
from kexec_verify.specs.capabilities import CAPABILITIES, capability, possible
from kexec_verify.target import Kernel, Segment, SymbolTable
from kexec_verify.target.capability_rows import CapabilityRow
from kexec_verify.target.patch_tables import Alternative, JumpEntry
from kexec_verify.target.patching import Patching
from kexec_verify.target.symbols import ListedNames

BASE = 0xFFFF_8000_0800_0000
NEW, READER, KEY, WORD = BASE + 0x100, BASE + 0x200, BASE + 0x1100, BASE + 0x1010
NOP, ISB, RET = 0xD503201F, 0xD5033FDF, 0xD65F03C0
ADRP_X3, LDR_X3 = 0xB0000003, 0xF9400863  # adrp x3, BASE + 0x1000; ldr x3, [x3, #0x10]
DIC, MISMATCHED, OTHER = 11, 41, 50

ROWS = {
    DIC: (CapabilityRow(DIC, "Instruction cache", "system", "has_cache_dic"),),
    MISMATCHED: (CapabilityRow(MISMATCHED, "Mismatched cache type (CTR_EL0)", "any CPU", "f"),),
    OTHER: (CapabilityRow(OTHER, "Erratum 1", "any CPU", "f"),),
}


def kernel(
    *entries: Alternative, jumps: tuple[JumpEntry, ...] = (), words: tuple[int, ...] = (NOP,) * 7 + (RET,)
) -> Kernel:
    data = bytearray(0x2000)
    struct.pack_into(f"<{len(words)}I", data, 0, *words)
    struct.pack_into("<4I", data, NEW - BASE, ISB, RET, ADRP_X3, LDR_X3)
    struct.pack_into("<3I", data, READER - BASE, ADRP_X3, LDR_X3, RET)
    names = {"f": BASE, "new": NEW, "has_cache_idc": READER, "has_cache_dic": READER, "word": WORD}
    names |= {
        "kvm_host_owns_hyp_mappings": BASE + 0x300,
        "kvm_hyp_reserve": BASE + 0x340,
        "end": BASE + 0x380,
    }
    ordered = sorted(names, key=names.__getitem__)
    table = SymbolTable(ListedNames(ordered), array("Q", (names[name] for name in ordered)))
    patching = Patching(ROWS, entries, jumps, ())
    segments = (Segment(BASE, bytes(data)),)
    return Kernel("k", "k", "elf", "0" * 64, None, None, None, segments, table, patching)


def code(target: Kernel, size: int = 32) -> Code:
    return Code("f", BASE, target.read(BASE, size), calls=True)


def alternative(offset: int, number: int, at: int = NEW, size: int = 8) -> Alternative:
    return Alternative(0, BASE + offset, at, number, size, size)


def test_each_set_of_choices_is_a_variant():
    target = kernel(alternative(0, DIC), alternative(16, DIC), alternative(8, MISMATCHED, NEW + 8))
    found = {variant.title: variant.words for variant in variants(target, code(target))}
    assert list(found) == ["HAS_CACHE_DIC", "MISMATCHED_CACHE_TYPE", "HAS_CACHE_DIC, MISMATCHED_CACHE_TYPE"]
    # All sites of one capability change together.
    assert sorted(found["HAS_CACHE_DIC"]) == [BASE, BASE + 16]
    both = next(v for v in variants(target, code(target)) if len(v.choices) == 2)
    applied = both.applied(target)
    assert struct.unpack("<8I", applied.read(BASE, 32)) == (ISB, RET, ADRP_X3, LDR_X3, ISB, RET, NOP, RET)
    assert applied.sha256 == target.sha256


def test_static_key_has_a_choice_at_each_site():
    jumps = tuple(JumpEntry(0, BASE + at, BASE + 28, KEY, False) for at in (4, 12))
    target = kernel(jumps=jumps)
    names = [variant.choices for variant in variants(target, code(target))]
    assert len(names) == 3 and {len(choices) for choices in names} == {1, 2}
    assert all(choice.startswith(f"static key {KEY:#x}@f+") for choices in names for choice in choices)


def test_static_key_in_a_function_with_a_loop_is_unsupported():
    jump = JumpEntry(0, BASE + 4, BASE + 28, KEY, False)
    back = 0x54FFFFE1  # b.ne to the instruction before
    target = kernel(jumps=(jump,), words=(NOP, NOP, NOP, back, NOP, NOP, NOP, RET))
    with pytest.raises(UnsupportedError, match="twice"):
        list(variants(target, code(target)))


def test_unknown_replacement_is_unsupported_and_many_choices_are_a_limit():
    target = kernel(Alternative(0, BASE, NEW, OTHER | 1 << 15, 8, 0))
    with pytest.raises(UnsupportedError, match="makes at boot"):
        list(variants(target, code(target)))
    jumps = tuple(JumpEntry(0, BASE + 4 * row, BASE + 28, KEY, False) for row in range(5))
    target = kernel(jumps=jumps)
    with pytest.raises(LimitError, match="choices"):
        list(variants(target, code(target)))


def test_word_that_is_read_for_ctr_is_the_one_that_others_read():
    target = kernel(alternative(0, MISMATCHED, NEW + 8))
    (variant,) = variants(target, code(target))
    assert sanitised_ctr(target, variant) == WORD
    # Another word, and the same word for another capability.
    other = target.patched(NEW + 12, struct.pack("<I", LDR_X3 + (1 << 10)))
    (variant,) = variants(other, code(other))
    assert sanitised_ctr(other, variant) is None
    target = kernel(alternative(0, OTHER, NEW + 8))
    (variant,) = variants(target, code(target))
    assert sanitised_ctr(target, variant) is None


def test_key_of_protected_kvm_is_the_one_that_two_functions_test():
    tests = tuple(JumpEntry(0, BASE + at, BASE + at + 8, KEY, False) for at in (0x300, 0x340))
    assert key_name(kernel(jumps=tests), KEY) == "kvm_protected_mode_initialized"
    assert key_name(kernel(jumps=tests), KEY + 16).startswith("static key")
    assert key_name(kernel(jumps=tests[:1]), KEY).startswith("static key")


def test_capabilities_are_told_apart():
    assert len({known.name for known in CAPABILITIES}) == len(CAPABILITIES)
    for known in CAPABILITIES:
        assert known.found_by or known.described
        assert capability(known.found_by or "f", known.described or None) is known
        # Each may be set alone, and may be not set: no assumption cuts a machine away.
        assert possible({known.name})
    assert possible(()) and possible({known.name for known in CAPABILITIES})
    assert capability("is_affected", "Erratum of another CPU") is None
