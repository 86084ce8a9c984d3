"""Finding the relocation routine in kernels that are a few instructions long."""

from __future__ import annotations

import struct
from array import array

import pytest
from kexec_verify.errors import NoKexecError
from kexec_verify.kexec.locate import find_function, find_routine
from kexec_verify.target import Kernel, Segment, SymbolTable
from kexec_verify.target.symbols import ListedNames

BASE = 0xFFFF_8000_0800_0000
POST_LOAD, MEMCPY, ROUTINE = BASE, BASE + 0x800, BASE + 0x1104
NOP, RET, BR_X28, UDF = 0xD503201F, 0xD65F03C0, 0xD61F0380, 0
# The routine: an instruction, a loop on itself, the final branch; then padding.
CODE = [0xF9400C1C, 0xB400005B, 0x17FFFFFF, BR_X28]


def adrp(register: int, at: int, target: int) -> int:
    pages = (target >> 12) - (at >> 12)
    return 0x90000000 | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5 | register


def add(register: int, base: int, immediate: int) -> int:
    return 0x91000000 | immediate << 10 | base << 5 | register


def subtract(register: int, left: int, right: int) -> int:
    return 0xCB000000 | right << 16 | left << 5 | register


def move(register: int, source: int) -> int:
    return 0xAA0003E0 | source << 16 | register


def call(at: int, target: int) -> int:
    return 0x94000000 | (target - at) >> 2 & 0x3FFFFFF


def copy_by_end(end: int = ROUTINE + 16, callee: int = MEMCPY, first: int = 0) -> list[int]:
    """memcpy(x24, start, end - start) as GCC 12 compiles it in 6.1's machine_kexec_post_load."""
    code = [adrp(23, POST_LOAD, end), adrp(1, POST_LOAD, ROUTINE), add(23, 23, end & 0xFFF)]
    code += [add(1, 1, ROUTINE & 0xFFF), subtract(23, 23, 1), 0xF9015683, move(2, 23), move(0, 24)]
    return [*code, call(POST_LOAD + 4 * (first + len(code)), callee), RET]


def kernel(post_load: list[int], routine: list[int] = CODE, **symbols: int) -> Kernel:
    data = bytearray(0x3000)
    for address, code in ((POST_LOAD, post_load), (ROUTINE, routine)):
        struct.pack_into(f"<{len(code)}I", data, address - BASE, *code)
    table = {"machine_kexec_post_load": POST_LOAD, "memcpy": MEMCPY, "__pi_memcpy": MEMCPY} | symbols
    table = {name: address for name, address in table.items() if address}
    return Kernel(
        "small", "small", "elf", "0" * 64, None, None, None, (Segment(BASE, bytes(data)),),
        SymbolTable(ListedNames(list(table)), array("Q", table.values())),
    )  # fmt: skip


def assert_is_the_routine(found, copied: bool = True) -> None:
    assert (found.name, found.address) == ("arm64_relocate_new_kernel", ROUTINE)
    assert found.code == struct.pack("<4I", *CODE)
    assert found.end == ROUTINE + 16
    assert (found.copied_from is not None) == copied


def test_routine_without_a_name_is_what_post_load_copies():
    found = find_routine(kernel(copy_by_end()))
    assert_is_the_routine(found)
    assert (found.copied_from, found.copied_size) == (ROUTINE, 16)
    assert "machine_kexec_post_load passes to memcpy" in found.found_by


def test_padding_in_the_copy_is_not_code():
    found = find_routine(kernel(copy_by_end(ROUTINE + 0x40)))
    assert_is_the_routine(found)
    assert found.copied_size == 0x40


def test_routine_with_a_name_ends_at_the_end_symbol():
    found = find_routine(
        kernel([RET], arm64_relocate_new_kernel=ROUTINE, __relocate_new_kernel_end=ROUTINE + 16)
    )
    assert_is_the_routine(found, copied=False)
    assert found.found_by == "symbol arm64_relocate_new_kernel, up to __relocate_new_kernel_end"


def test_routine_with_a_name_and_a_copy_says_where_it_lies_in_the_copy():
    found = find_routine(kernel(copy_by_end(), arm64_relocate_new_kernel=ROUTINE + 4))
    assert (found.address, found.copied_from, found.copied_size) == (ROUTINE + 4, ROUTINE, 16)


def test_old_routine_ends_at_its_size_word():
    word = ROUTINE + 20
    code = [adrp(1, POST_LOAD, ROUTINE), add(1, 1, ROUTINE & 0xFFF)]
    code += [adrp(2, POST_LOAD, word), 0xF9400042 | (word & 0xFFF) >> 3 << 10]  # ldr x2, [x2, #word]
    code.append(call(POST_LOAD + 4 * len(code), MEMCPY))
    names = {"arm64_relocate_new_kernel": ROUTINE, "arm64_relocate_new_kernel_size": word}
    found = find_routine(kernel([*code, RET], [*CODE, UDF, 20, 0], **names))
    assert_is_the_routine(found)
    assert (found.copied_from, found.copied_size) == (ROUTINE, 20)
    assert found.found_by.endswith("arm64_relocate_new_kernel_size")


def test_copier_may_be_machine_kexec_itself():
    assert_is_the_routine(
        find_routine(kernel(copy_by_end(), machine_kexec_post_load=0, machine_kexec=POST_LOAD))
    )


@pytest.mark.parametrize(
    "code",
    [
        [RET],
        copy_by_end(callee=MEMCPY + 0x10),
        copy_by_end(end=ROUTINE),
        copy_by_end(end=ROUTINE - 4),
        # A register that is loaded in between is no constant.
        [*copy_by_end()[:6], 0xF9400281, *copy_by_end(first=1)[6:]],
        # Nor is one that a branch target between lets in with another value.
        [0xB40000B3, *copy_by_end(first=1)],
        # Two different copies: none is the routine's for sure.
        [*copy_by_end()[:-1], *copy_by_end(end=ROUTINE + 12, first=9)],
        [UDF] * 4,
    ],
)
def test_kernel_without_a_recognisable_copy_is_refused(code):
    with pytest.raises(NoKexecError, match=r"small: expected a symbol arm64_relocate_new_kernel.* neither"):
        find_routine(kernel(code))


def test_kernel_without_kexec_is_refused():
    with pytest.raises(NoKexecError, match="machine_kexec_post_load"):
        find_routine(kernel([RET], machine_kexec_post_load=0))


def test_routine_without_bytes_is_refused():
    with pytest.raises(NoKexecError, match="expected code at 0x1000 "):
        find_routine(kernel([RET], arm64_relocate_new_kernel=0x1000))


def test_function_ends_where_the_next_begins_without_padding():
    found = find_function(kernel([NOP, RET], cpu_soft_restart=POST_LOAD + 4), "cpu_soft_restart")
    assert found.code == struct.pack("<I", RET)
    assert "symbol cpu_soft_restart" in found.found_by


def test_missing_function_is_named():
    with pytest.raises(NoKexecError, match="small: expected a symbol cpu_soft_restart, found none"):
        find_function(kernel([RET]), "cpu_soft_restart")


def test_of_functions_with_one_name_the_one_at_the_address_is_taken():
    names = ["f", "g", "f", "end"]
    addresses = [BASE, BASE + 8, BASE + 16, BASE + 24]
    data = struct.pack("<6I", NOP, RET, NOP, RET, BR_X28, RET)
    twice = Kernel(
        "small", "small", "elf", "0" * 64, None, None, None, (Segment(BASE, data),),
        SymbolTable(ListedNames(names), array("Q", addresses)),
    )  # fmt: skip
    for address, code in ((BASE, data[:8]), (BASE + 16, data[16:])):
        found = find_function(twice, "f", address)
        assert (found.name, found.address, found.code) == ("f", address, code)
    assert find_function(twice, "f").address == BASE
    with pytest.raises(NoKexecError, match="expected a symbol f, found none"):
        find_function(twice, "f", BASE + 8)
