"""Globals by their symbols, and by the boot code that must know where they stand."""

from __future__ import annotations

import struct
from array import array

import pytest

from verify.kexec.globals import find_globals
from verify.target import Kernel, Segment, SymbolTable
from verify.target.symbols import ListedNames

BASE = 0xFFFF_8000_0800_0000
VOFFSET, MEMSTART, T0SZ, SWAPPER, IDMAP, MODE = (
    BASE + 0x8000 + at for at in (0, 8, 0x10, 0x3000, 0x1000, 0x20)
)
ENABLE_MMU = BASE + 0x700
RET, NOP = 0xD65F03C0, 0xD503201F


def adrp(register: int, at: int, target: int) -> int:
    pages = (target >> 12) - (at >> 12)
    return 0x90000000 | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5 | register


def add(register: int, base: int, immediate: int) -> int:
    return 0x91000000 | immediate << 10 | base << 5 | register


def call(at: int, target: int) -> int:
    return 0x94000000 | (target - at) >> 2 & 0x3FFFFFF


def ldr(register: int, base: int, offset: int) -> int:
    return 0xF9400000 | offset // 8 << 10 | base << 5 | register


def ldrsw(register: int, base: int, offset: int) -> int:
    return 0xB9800000 | offset // 4 << 10 | base << 5 | register


def primary_switched(at: int, subtracted: int = 0) -> list[int]:
    """kimage_voffset is __pa_symbol(_text) apart: sub x4, x4, x0; str x4, [x5, #kimage_voffset]."""
    code = [adrp(4, at, BASE), 0xCB000084 | subtracted << 16, adrp(5, at, VOFFSET)]
    return [*code, 0xF9000000 | (VOFFSET & 0xFFF) // 8 << 10 | 5 << 5 | 4, RET]


def cpu_resume(at: int) -> list[int]:
    code = [adrp(1, at, SWAPPER), adrp(2, at, IDMAP)]
    return [*code, call(at + 4 * len(code), ENABLE_MMU), RET]


def boot_mode(at: int) -> list[int]:
    """set_cpu_boot_mode_flag: add x1, x1, :lo12:; cmp; add x1, x1, #4; str w0, [x1]."""
    return [adrp(1, at, MODE), add(1, 1, MODE & 0xFFF), 0xF1003C1F, 0x54000041, add(1, 1, 4), 0xB9000020, RET]


def reader(at: int, signed: bool, *further: int) -> list[int]:
    code = [adrp(3, at, VOFFSET), ldr(1, 3, VOFFSET & 0xFFF), ldr(2, 3, MEMSTART & 0xFFF)]
    return [*code, *([ldrsw(4, 3, T0SZ & 0xFFF)] if signed else []), *further, RET]


def kernel(functions: dict[str, list[int]], symbols: dict[str, int] | None = None) -> Kernel:
    data = bytearray(0xC000)
    names = {"_text": BASE, "__enable_mmu": ENABLE_MMU, **(symbols or {})}
    for index, (name, code) in enumerate(functions.items()):
        at = 0x1000 + 0x100 * index
        struct.pack_into(f"<{len(code)}I", data, at, *code)
        names |= {name: BASE + at, f"after_{name}": BASE + at + 4 * len(code)}
    return Kernel(
        "small", "small", "image", "0" * 64, None, None, 4096, (Segment(BASE, bytes(data)),),
        SymbolTable(ListedNames(list(names)), array("Q", names.values())),
    )  # fmt: skip


def place(index: int) -> int:
    return BASE + 0x1000 + 0x100 * index


def witnesses() -> dict[str, list[int]]:
    return {
        "__primary_switched": primary_switched(place(0)),
        "cpu_resume": cpu_resume(place(1)),
        "set_cpu_boot_mode_flag": boot_mode(place(2)),
        "machine_kexec": reader(place(3), True),
        "machine_kexec_post_load": reader(place(4), False),
    }


def test_symbols_say_where_globals_stand():
    symbols = {"kimage_voffset": VOFFSET, "memstart_addr": MEMSTART, "reserved_pg_dir": BASE + 0xB000}
    found = find_globals(kernel({}, symbols))
    assert found.addresses == symbols
    assert set(found.found_by.values()) == {"its symbol"}
    assert found.low == BASE and "kimage_voffset" in found and "idmap_pg_dir" not in found


def test_boot_code_says_where_globals_stand():
    found = find_globals(kernel(witnesses()))
    assert found.addresses == {
        "kimage_voffset": VOFFSET,
        "swapper_pg_dir": SWAPPER,
        "idmap_pg_dir": IDMAP,
        "__boot_cpu_mode": MODE,
        "memstart_addr": MEMSTART,
        "idmap_t0sz": T0SZ,
        "reserved_pg_dir": SWAPPER - 4096,
    }
    assert found.found_by["kimage_voffset"] == "the code of __primary_switched"
    assert found.signed_words == {"idmap_t0sz"}


def test_a_symbol_outweighs_the_code():
    found = find_globals(kernel(witnesses(), {"swapper_pg_dir": BASE + 0xA000}))
    assert found["swapper_pg_dir"] == BASE + 0xA000
    assert found["reserved_pg_dir"] == BASE + 0x9000


@pytest.mark.parametrize("missing", list(witnesses()))
def test_what_no_code_names_is_left_out(missing):
    functions = {name: code for name, code in witnesses().items()}
    functions[missing] = [NOP, RET]
    lost = {
        "__primary_switched": {"kimage_voffset", "memstart_addr"},
        "cpu_resume": {"swapper_pg_dir", "idmap_pg_dir", "reserved_pg_dir"},
        "set_cpu_boot_mode_flag": {"__boot_cpu_mode"},
        "machine_kexec": {"memstart_addr", "idmap_t0sz"},
        "machine_kexec_post_load": {"memstart_addr"},
    }
    everything = set(find_globals(kernel(witnesses())).addresses)
    assert set(find_globals(kernel(functions)).addresses) == everything - lost[missing]


def test_a_difference_from_another_register_is_not_taken_for_the_offset():
    functions = witnesses() | {"__primary_switched": primary_switched(place(0), subtracted=7)}
    assert "kimage_voffset" not in find_globals(kernel(functions))


def test_of_two_words_that_both_read_none_is_taken():
    more = ldr(6, 3, 0x30)
    functions = witnesses() | {
        "machine_kexec": reader(place(3), True, more),
        "machine_kexec_post_load": reader(place(4), False, more),
    }
    assert "memstart_addr" not in find_globals(kernel(functions))
