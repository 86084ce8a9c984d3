"""Globals by their symbols, and by the boot code that must know where they stand."""

from __future__ import annotations

import struct
from array import array

import pytest
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.globals import find_globals
from kexec_verify.target import Kernel, Segment, SymbolTable
from kexec_verify.target.symbols import ListedNames

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


def words_reader(at: int, register: int, *offsets: int) -> list[int]:
    """Reads 64-bit words or, for register 32 on, words of 32 bits, by offset from VOFFSET's page."""
    page = VOFFSET & -4096
    wide = [ldr(1, 3, offset) for offset in offsets]
    narrow = [0xB9400000 | offset // 4 << 10 | 3 << 5 | 1 for offset in offsets]
    return [adrp(3, at, page), *(wide if register < 32 else narrow), RET]


CRASH, ONLINE, ZERO = VOFFSET + 0x40, VOFFSET + 0x48, BASE + 0xB000


def witnesses() -> dict[str, list[int]]:
    memstart, t0sz = MEMSTART & 0xFFF, T0SZ & 0xFFF
    page = VOFFSET & -4096
    return {
        "__primary_switched": primary_switched(place(0)),
        "cpu_resume": cpu_resume(place(1)),
        "set_cpu_boot_mode_flag": boot_mode(place(2)),
        "__pmd_alloc": words_reader(place(3), 0, VOFFSET & 0xFFF, memstart),
        "__pud_alloc": words_reader(place(4), 0, memstart, VOFFSET & 0xFFF),
        "__cpu_suspend_exit": [adrp(3, place(5), page), ldrsw(4, 3, t0sz), RET],
        "kexec_crash_loaded": words_reader(place(6), 0, CRASH & 0xFFF),
        "_cpu_down": words_reader(place(7), 32, ONLINE & 0xFFF),
        "kvm_clear_guest": [adrp(0, place(8), ZERO), add(0, 0, 0), RET],
        # The functions under proof read other words in the same way: they are asked nothing.
        "machine_kexec": reader(place(9), True, ldr(6, 3, 0x60)),
        "machine_kexec_post_load": reader(place(10), False, ldr(6, 3, 0x60)),
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
        "kexec_crash_image": CRASH,
        "__num_online_cpus": ONLINE,
        "empty_zero_page": ZERO,
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
        "__pmd_alloc": {"memstart_addr"},
        "__pud_alloc": {"memstart_addr"},
        "__cpu_suspend_exit": {"idmap_t0sz"},
        "kexec_crash_loaded": {"kexec_crash_image"},
        "_cpu_down": {"__num_online_cpus"},
        "kvm_clear_guest": {"empty_zero_page"},
        "machine_kexec": set(),
        "machine_kexec_post_load": set(),
    }
    everything = set(find_globals(kernel(witnesses())).addresses)
    assert set(find_globals(kernel(functions)).addresses) == everything - lost[missing]


VABITS = VOFFSET + 0x50


def early_witnesses() -> dict[str, list[int]]:
    """Before 5.16 __enable_mmu forms idmap_pg_dir, and __create_page_tables stores what others read."""
    page, t0sz, vabits = VOFFSET & -4096, T0SZ & 0xFFF, VABITS & 0xFFF
    exits = [adrp(3, place(1), page), ldr(4, 3, t0sz), ldr(5, 3, vabits)]
    tables = (SWAPPER, SWAPPER - 4096, IDMAP)
    formed = [word for table in tables for word in (adrp(1, place(1) + 0x20, table), add(1, 1, 0))]
    return {
        "cpu_resume": [adrp(1, place(0), SWAPPER), call(place(0) + 4, ENABLE_MMU), RET],
        "__cpu_suspend_exit": [*exits, *[NOP] * 5, *formed, RET],
        "__create_page_tables": [
            adrp(6, place(2), page),
            STR | t0sz // 8 << 10,
            STR | vabits // 8 << 10,
            RET,
        ],
        "arm64_memblock_init": words_reader(place(3), 0, vabits),
        "arch_crash_save_vmcoreinfo": words_reader(place(4), 0, VOFFSET & 0xFFF, vabits),
        "__cpu_setup": words_reader(place(5), 0, t0sz),
    }


STR = 0xF9000000 | 6 << 5 | 5  # str x5, [x6]
MSR_TTBR0 = 0xD5182002  # msr ttbr0_el1, x2


def early_kernel(functions: dict[str, list[int]]) -> Kernel:
    """__enable_mmu itself forms the idmap, by adrp x2; mov x2, x2; msr ttbr0_el1, x2."""
    made = kernel(functions)
    words = struct.pack("<4I", adrp(2, ENABLE_MMU, IDMAP), 0xAA0203E2, MSR_TTBR0, RET)
    return made.patched(ENABLE_MMU, words)


def test_early_boot_code_says_where_globals_stand():
    found = find_globals(early_kernel(early_witnesses()))
    expected = {"idmap_pg_dir": IDMAP, "idmap_t0sz": T0SZ, "vabits_actual": VABITS}
    assert {name: found[name] for name in expected} == expected
    assert all(" and of " in found.found_by[name] for name in expected), found.found_by
    assert found.signed_words == frozenset()


def test_tables_are_not_looked_for_where_enable_mmu_is_given_the_idmap():
    found = find_globals(kernel(early_witnesses()))
    assert "idmap_pg_dir" not in found


def test_early_functions_that_differ_are_refused():
    functions = early_witnesses() | {"__cpu_setup": words_reader(place(5), 0, VABITS & 0xFFF)}
    assert find_globals(early_kernel(functions)).found_by["idmap_t0sz"].count(" and of ") == 0
    other = [adrp(1, place(1), IDMAP + 0x4000), add(1, 1, 0), RET]
    with pytest.raises(UnsupportedError, match="idmap_pg_dir is at"):
        find_globals(early_kernel(early_witnesses() | {"__cpu_suspend_exit": other}))


def test_a_difference_from_another_register_is_not_taken_for_the_offset():
    functions = witnesses() | {"__primary_switched": primary_switched(place(0), subtracted=7)}
    assert "kimage_voffset" not in find_globals(kernel(functions))


def test_of_two_words_that_both_read_none_is_taken():
    words = (VOFFSET & 0xFFF, MEMSTART & 0xFFF, 0x30)
    functions = witnesses() | {
        "__pmd_alloc": words_reader(place(3), 0, *words),
        "__pud_alloc": words_reader(place(4), 0, *words),
    }
    assert "memstart_addr" not in find_globals(kernel(functions))


def test_two_functions_that_differ_are_refused():
    functions = witnesses() | {"crash_prepare_suspend": words_reader(place(11), 0, 0x70)}
    with pytest.raises(UnsupportedError, match=r"kexec_crash_image is at .* by the code of crash_prep"):
        find_globals(kernel(functions))


@pytest.mark.parametrize("name", ["machine_kexec", "machine_kexec_post_load"])
def test_the_functions_under_proof_move_no_global(name):
    """Whatever they read, the words that other functions name stay where they are."""
    places = find_globals(kernel(witnesses())).addresses
    moved = witnesses() | {
        name: [adrp(3, place(9), VOFFSET & -4096), ldrsw(4, 3, 0x6C), ldr(5, 3, 0x68), RET]
    }
    assert find_globals(kernel(moved)).addresses == places


def test_where_the_linear_map_starts_is_agreed_on():
    orr, other = 0xB250_3C00, 0xB24C_2C00  # orr x0, x0, #0xffff000000000000, and #0xfff0000000000000
    said = witnesses() | {"__pte_alloc_kernel": [orr, RET]}
    assert find_globals(kernel(said)).page_offset == 0xFFFF_0000_0000_0000
    assert find_globals(kernel(witnesses())).page_offset is None
    with pytest.raises(UnsupportedError, match="differ on where its linear map starts"):
        find_globals(kernel(said | {"arm64_memblock_init": [other, RET]}))


@pytest.mark.parametrize(("word", "folds"), [(0xAA42_B842, True), (0xAA02_03E2, False)])
def test_enable_mmu_says_whether_ttbrs_are_folded(word, folds):
    """orr x2, x2, x2, lsr #46; mov x2, x2."""
    functions = {"__enable_mmu": [word, RET]}
    assert find_globals(kernel(functions)).folds_ttbr is folds
    assert find_globals(kernel({})).folds_ttbr is not True
