"""What the prover is told of instructions that boot patches."""

from __future__ import annotations

import struct

import pytest
from kexec_verify.arm64.lift import Code
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.patch_sites import as_linked, unknown
from kexec_verify.target import Kernel, Segment
from kexec_verify.target.capability_rows import CapabilityRow
from kexec_verify.target.patch_tables import CALLBACK, NOP, Alternative, JumpEntry
from kexec_verify.target.patching import Patching

BASE = 0xFFFF_8000_0800_0000
ISB, RET = 0xD5033FDF, 0xD65F03C0


def kernel(*alternatives: Alternative, jumps: tuple[JumpEntry, ...] = ()) -> Kernel:
    data = struct.pack("<8I", NOP, NOP, NOP, RET, ISB, RET, NOP, RET)
    rows = {
        1: (CapabilityRow(1, None, "boot CPU", "has_always"),),
        11: (CapabilityRow(11, "DIC", "system", "has_cache_dic"),),
    }
    patching = Patching(rows, alternatives, jumps, ())
    segments = (Segment(BASE, data),)
    return Kernel("small", "small", "elf", "0" * 64, None, None, None, segments, patching=patching)


def test_instruction_that_boot_makes_by_an_unknown_function_is_unsupported():
    made = Alternative(0, BASE + 4, BASE + 0x18, CALLBACK | 1, 8, 0)
    found = unknown(kernel(made), BASE, BASE + 16)
    assert sorted(found) == [BASE + 4, BASE + 8]
    code = Code("function", BASE, kernel().segments[0].data[:16], unknown=found)
    assert code.at(BASE).word == NOP and code.at(BASE + 12).word == RET
    for patched in (code, code.patched(BASE, ISB)):
        with pytest.raises(UnsupportedError, match="makes at boot"):
            patched.at(BASE + 8)


def test_what_some_machines_patch_is_named_where_it_is_executed():
    some = Alternative(0, BASE, BASE + 0x10, 11, 8, 8)
    key = JumpEntry(0, BASE + 8, BASE + 12, BASE + 0x1000, False)
    patched = kernel(some, jumps=(key,))
    assert unknown(patched, BASE, BASE + 16) == {}
    told = as_linked(patched, [BASE + 4, BASE + 12], ())
    assert told is not None and "HAS_CACHE_DIC" in told and "static key" not in told
    assert "static key" in (as_linked(patched, [BASE + 8], ()) or "")
    assert as_linked(patched, [BASE + 12], ()) is None
    assert as_linked(kernel(), [BASE, BASE + 4], ()) is None
    # What is proved both ways is left out, and nothing else.
    assert as_linked(patched, [BASE + 4], {BASE}) is None
    left = as_linked(patched, [BASE + 4, BASE + 8], {BASE})
    assert left is not None and "HAS_CACHE_DIC" not in left and "static key" in left
