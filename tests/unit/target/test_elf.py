"""ELF targets: what is read from them, what is refused, what survives writing them out."""

from __future__ import annotations

import os
import random
import struct
import time

import pytest

from verify.errors import TargetError
from verify.target import load_kernel, open_target, write_elf

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


def test_relocations_of_a_relocatable_kernel_are_applied(make):
    elf = make.elf(type=3, rela=[(make.base + 8, 0x403, make.base + 0x40), (make.base + 16, 0x101, 7)])
    kernel = load_kernel(elf.build(), "vmlinux", "vmlinux")
    assert kernel.read(make.base + 8, 8) == struct.pack("<Q", make.base + 0x40)
    assert kernel.read(make.base + 16, 4) == b"\xc0\x03\x5f\xd6"


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
        ".": "found a directory",
    }.items():
        with pytest.raises(TargetError, match=message):
            open_target(str(tmp_path / name))
