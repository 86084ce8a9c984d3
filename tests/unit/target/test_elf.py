"""ELF targets: what is read from them, what is refused, what survives writing them out."""

from __future__ import annotations

import os
import random
import struct
import time

import pytest
from kexec_verify.errors import TargetError
from kexec_verify.target import elf as elf_module
from kexec_verify.target import load_kernel, open_target, write_elf

GLOBAL_FUNC, LOCAL_FUNC, LOCAL_FILE = 0x12, 0x02, 0x04


@pytest.fixture
def small(make):
    """An ELF with four symbols, one of them without a size."""
    base = make.base
    return make.elf(
        symbols=[
            ("file.c", 0, 0, LOCAL_FILE, 0xFFF1),
            ("$x", base + 8, 0, 0, 1),
            ("arm64_relocate_new_kernel", base, 0x40, GLOBAL_FUNC, 1),
            ("new_kernel", base + 0x80, 0, LOCAL_FUNC, 1),
            ("new_kernel", base + 0x90, 8, GLOBAL_FUNC, 1),
            ("undefined", 0, 0, GLOBAL_FUNC, 0),
        ]
    )


def test_symbols_of_an_elf(make, small):
    kernel = load_kernel(small.build(), "vmlinux", "vmlinux")
    assert (kernel.format, kernel.build_id) == ("elf", make.build_id)
    assert kernel.symbol("arm64_relocate_new_kernel").size == 0x40
    assert kernel.symbol("new_kernel").address == make.base + 0x90, "a global name comes first"
    assert kernel.symbol("undefined") is None
    assert kernel.symbol("file.c") is None
    assert kernel.symbol("kernel") is None, "the end of a name is no name"
    assert kernel.symbol_before(make.base + 0x10).name == "arm64_relocate_new_kernel"
    assert kernel.symbols_at(make.base + 8) == [], "mapping symbols name nothing"


def test_names_may_share_their_ends(make):
    kernel = load_kernel(make.elf(symbols=[("__pi_memcpy", make.base, 4, GLOBAL_FUNC, 1)]).build(), "v", "v")
    elf = bytearray(make.elf(symbols=[("__pi_memcpy", make.base, 4, GLOBAL_FUNC, 1)]).build())
    at = elf.find(struct.pack("<IBBHQ", 1, GLOBAL_FUNC, 0, 1, make.base))
    struct.pack_into("<I", elf, at, 1 + len("__pi_"))
    assert kernel.symbol("memcpy") is None
    assert load_kernel(bytes(elf), "v", "v").symbol("memcpy").address == make.base


TABLE_AT = 0x200


def relocatable(make, entries=((8, 0x403, 0x40), (16, 0x101, 7)), code=None, symbols=True, **changes):
    """A kernel whose relocation table stands at TABLE_AT, bounded by symbols, by code, or by both."""
    table = b"".join(
        struct.pack("<QQQ", make.base + at, info, make.base + value) for at, info, value in entries
    )
    start, end = make.base + TABLE_AT, make.base + TABLE_AT + len(table)
    text = bytearray(TABLE_AT)
    if code is not None:
        words = make.relocate(code, make.base + 0x100, start, end)
        text[0x100 : 0x100 + len(words)] = words
    names = [("__rela_start", start, 0, 0x10, 1), ("__rela_end", end, 0, 0x10, 1)] if symbols else []
    elf = make.elf(type=3, segments=[(make.base, bytes(text) + table)], symbols=names)
    for field, value in changes.items():
        setattr(elf, field, value)
    return elf


@pytest.mark.parametrize(("code", "symbols"), [(None, True), ("asm", False), ("c", False), ("c", True)])
def test_relocations_of_a_relocatable_kernel_are_applied(make, code, symbols):
    kernel = load_kernel(relocatable(make, code=code, symbols=symbols).build(), "vmlinux", "vmlinux")
    assert kernel.read(make.base + 8, 8) == struct.pack("<Q", make.base + 0x40)
    assert kernel.read(make.base + 16, 8) == bytes(8), "the boot code applies no other type"


def test_the_type_is_in_the_low_half_of_the_info(make):
    elf = relocatable(make, entries=[(8, 5 << 32 | 0x403, 0x40)])
    kernel = load_kernel(elf.build(), "vmlinux", "vmlinux")
    assert kernel.read(make.base + 8, 8) == struct.pack("<Q", make.base + 0x40)


@pytest.mark.parametrize("away", [8, 24, -24])
def test_symbols_and_code_that_bound_other_tables_are_refused(make, away):
    elf = relocatable(make, code="c")
    name, address, *rest = elf.symbols[1]
    elf.symbols[1] = (name, address + away, *rest)
    with pytest.raises(
        TargetError, match=r"expected one relocation table, found 0x.* by symbol, 0x.* by code"
    ):
        load_kernel(elf.build(), "vmlinux", "vmlinux")


def test_two_pieces_of_code_that_bound_other_tables_are_refused(make):
    elf = relocatable(make, code="c", symbols=False)
    ((address, data),) = elf.segments
    other = make.relocate("asm", address + 0x180, address + TABLE_AT, address + TABLE_AT + 24)
    elf.segments = [(address, data[:0x180] + other + data[0x180 + len(other) :])]
    with pytest.raises(TargetError, match="expected one relocation table"):
        load_kernel(elf.build(), "vmlinux", "vmlinux")


def test_a_section_never_says_alone_where_relocations_are(make):
    entries = [(make.base + 8, 0x403, make.base + 0x40)]
    elf = make.elf(type=3, rela=entries)
    with pytest.raises(TargetError, match="as a section says, found no symbols and no code"):
        load_kernel(elf.build(), "vmlinux", "vmlinux")
    elf = relocatable(make, rela=[*entries, (make.base + 16, 0x101, 7)], rela_at=make.base + TABLE_AT)
    assert load_kernel(elf.build(), "vmlinux", "vmlinux").read(make.base + 8, 8) != bytes(8)
    elf.rela_at += 24
    with pytest.raises(TargetError, match="as a section says, found 0x"):
        load_kernel(elf.build(), "vmlinux", "vmlinux")


def test_what_looks_like_a_table_is_not_applied_but_refused(make):
    entries = [(8 * row, 0x403, 0x40) for row in range(20)]
    elf = relocatable(make, entries=entries, symbols=False)
    with pytest.raises(TargetError, match="bound the kernel's relocations, found neither"):
        load_kernel(elf.build(), "vmlinux", "vmlinux")


def test_a_longer_run_of_entries_beside_the_table_is_left_alone(make):
    elf = relocatable(make, code="c", symbols=False)
    ((address, data),) = elf.segments
    bait = struct.pack("<QQQ", address + 0x18, 0x403, address + 0x80) * 40
    elf.segments = [(address, data + bait)]
    kernel = load_kernel(elf.build(), "vmlinux", "vmlinux")
    assert kernel.read(address + 8, 8) == struct.pack("<Q", address + 0x40)
    assert kernel.read(address + 0x18, 8) == bytes(8)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([(8, 0x403, 0x40), (8, 0x403, 0x48)], "which is relocated, found 0x"),  # two of one word
        ([(TABLE_AT + 40, 0x403, 0x40), (8, 0x403, 0x48)], "apart from their own table"),
        ([(-4, 0x403, 0x40)], "whole words to relocate"),
    ],
)
def test_relocations_that_contradict_each_other_are_refused(make, entries, message):
    with pytest.raises(TargetError, match=message):
        load_kernel(relocatable(make, entries=entries).build(), "vmlinux", "vmlinux")


def test_a_changed_word_that_boot_would_overwrite_is_refused(make):
    elf = relocatable(make)
    ((address, data),) = elf.segments
    elf.segments = [(address, data[:8] + b"\1" + data[9:])]
    with pytest.raises(TargetError, match=r"which is relocated, found 0x1$"):
        load_kernel(elf.build(), "vmlinux", "vmlinux")


def test_a_table_of_no_whole_number_of_entries_is_refused(make):
    elf = relocatable(make)
    name, address, *rest = elf.symbols[1]
    elf.symbols[1] = (name, address - 8, *rest)
    with pytest.raises(TargetError, match="expected 24-byte relocations"):
        load_kernel(elf.build(), "vmlinux", "vmlinux")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"physical": [0x2000, 0x1000]}, "as far apart in physical as in virtual memory"),  # order
        ({"physical": [0x1000, 0x1000]}, "as far apart in physical as in virtual memory"),  # overlap
        ({"physical": [0x1000, 0x3000]}, "as far apart in physical as in virtual memory"),  # distance
        ({"room": [0x2000, 8]}, "expected separate segments, found an overlap at 0x2000"),
        ({"room": [4, 8]}, "as large in memory as in the file, found 8 bytes for 4"),
        ({"offsets": [0, 4]}, "apart in the file, found two that share byte"),
    ],
)
def test_segments_that_contradict_each_other_are_refused(make, changes, message):
    elf = make.elf(segments=[(0x1000, b"abcdefgh"), (0x2000, b"ijklmnop")])
    assert load_kernel(elf.build(), "vmlinux", "vmlinux").read(0x2000, 4) == b"ijkl"
    for field, value in changes.items():
        setattr(elf, field, value)
    with pytest.raises(TargetError, match=message):
        load_kernel(elf.build(), "vmlinux", "vmlinux")


def test_too_many_program_headers_are_refused(make):
    elf = bytearray(make.elf().build() + bytes(56 * 60000))
    struct.pack_into("<H", elf, 56, 60000)
    with pytest.raises(TargetError, match="expected at most 256 program headers, found 60000"):
        load_kernel(bytes(elf), "vmlinux", "vmlinux")


def test_bytes_that_are_not_loaded_are_part_of_the_hash(make, small):
    data = small.build()
    kernel = load_kernel(data, "vmlinux", "vmlinux")
    longer = load_kernel(data + b"\0", "vmlinux", "vmlinux")
    assert longer.segments == kernel.segments
    assert longer.sha256 != kernel.sha256


def test_stripped_kernel_has_the_symbols_of_its_kallsyms(make):
    image = make.image("6.1", relocated=False) + bytes(1 << 16)
    kernel = load_kernel(make.elf(segments=[(make.base, image)]).build(), "vmlinux", "vmlinux")
    assert kernel.symbol("_stext").address == make.base + 0x40
    assert (kernel.page_size, kernel.version) == (4096, "6.1.0-56-arm64")


def test_read_joins_touching_segments_and_refuses_gaps(make):
    segments = [(0x1000, b"abcd"), (0x1004, b"efgh"), (0x2000, b"ijkl")]
    kernel = load_kernel(make.elf(segments=segments).build(), "vmlinux", "vmlinux")
    assert kernel.read(0x1002, 4) == b"cdef"
    assert kernel.read(0x1002, 0) == b""
    for address, size in ((0xFFF, 2), (0x1006, 4), (0x2003, 2), (1 << 64, 1)):
        with pytest.raises(TargetError, match=r"vmlinux: expected \d+ bytes at 0x[0-9a-f]+, found none"):
            kernel.read(address, size)


def test_patched_copies_differ_and_leave_the_original_alone(make):
    segments = [(0x1000, b"abcd"), (0x1004, b"efgh")]
    kernel = load_kernel(make.elf(segments=segments).build(), "vmlinux", "vmlinux")
    copy = kernel.patched(0x1003, b"XY")
    assert copy.read(0x1000, 8) == b"abcXYfgh"
    assert kernel.read(0x1000, 8) == b"abcdefgh"
    assert len({kernel.sha256, copy.sha256, kernel.patched(0x1003, b"XZ").sha256}) == 3
    with pytest.raises(TargetError, match="expected"):
        kernel.patched(0x1007, b"XY")


def test_written_kernel_reads_back(make, tmp_path):
    kernel = load_kernel(make.image(), "vmlinuz", "vmlinuz").patched(make.base + 0x100, b"\x1f\x20\x03\xd5")
    path = tmp_path / "patched"
    write_elf(kernel, path)
    again = open_target(str(path))
    assert again.segments == kernel.segments
    assert [(s.name, s.address) for s in again.symbols] == [(s.name, s.address) for s in kernel.symbols]
    assert (again.name, again.page_size, again.version) == ("patched", 4096, kernel.version)
    assert os.listdir(tmp_path) == ["patched"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("machine", 62, "expected an AArch64 ELF, found x86-64"),
        ("elf_class", 1, "expected a 64-bit ELF"),
        ("encoding", 2, "expected a little-endian ELF"),
        ("type", 1, "found ET_REL"),
        ("segments", [], "expected a PT_LOAD segment"),
        ("segments", [(0x1000, b"abcd"), (0x1002, b"ab")], "overlap"),
        ("segments", [((1 << 64) - 2, b"abcd")], "below 2\\^64"),
    ],
)
def test_other_elf_files_are_refused(make, field, value, message):
    elf = make.elf()
    setattr(elf, field, value)
    with pytest.raises(TargetError, match=message):
        load_kernel(elf.build(), "vmlinux", "vmlinux")


def test_elf_files_cut_anywhere_are_loaded_or_refused(small):
    data = small.build()
    for size in range(0, len(data), 64):
        with pytest.raises(TargetError, match=r"vmlinux: expected .*, found "):
            load_kernel(data[:size], "vmlinux", "vmlinux")


def test_corrupt_elf_files_are_loaded_or_refused(small):
    chance = random.Random("elf")
    data = small.build()
    start = time.monotonic()
    for _ in range(3000):
        bad = bytearray(data)
        for _ in range(chance.choice((1, 2, 8, 64))):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        try:
            kernel = load_kernel(bytes(bad), "vmlinux", "vmlinux")
            for symbol in kernel.symbols:
                kernel.symbol(symbol.name)
                kernel.symbols_at(symbol.address)
        except TargetError as error:
            assert "\n" not in str(error)
    assert time.monotonic() - start < 60


def test_what_is_no_kernel_file_is_refused(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("no kernel\n")
    os.mkfifo(tmp_path / "pipe")
    for name, message in {
        "empty": "found an empty file",
        "text": "expected an ELF file or an arm64 Image, found bytes 6e 6f",
        "pipe": "expected a file, found a device or a pipe",
        "missing": "No such file",
        "text/below": "Not a directory",
        ".": "expected vmlinux or arch/arm64/boot/Image in this folder, found neither",
    }.items():
        with pytest.raises(TargetError, match=message):
            open_target(str(tmp_path / name))


def test_more_symbols_than_any_kernel_has_are_not_read(make, monkeypatch):
    monkeypatch.setattr(elf_module, "_MOST_SYMBOLS", 3)
    elf = make.elf(symbols=[(f"f{row}", make.base, 4, 0x12, 1) for row in range(2)])
    load_kernel(elf.build(), "vmlinux", "vmlinux")
    elf.symbols.append(("f2", make.base, 4, 0x12, 1))
    with pytest.raises(TargetError, match="expected at most 3 symbols"):
        load_kernel(elf.build(), "vmlinux", "vmlinux")


def test_name_that_fills_the_string_table_is_refused(make):
    elf = make.elf(symbols=[("machine_kexec", make.base, 4, 0x12, 1)] * 100)
    with pytest.raises(TargetError, match="expected the name machine_kexec once"):
        load_kernel(elf.build(), "vmlinux", "vmlinux").symbol("machine_kexec")
