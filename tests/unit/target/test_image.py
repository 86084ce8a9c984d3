"""Raw and compressed Images: their base, symbols, relocated words, and damage to any of them."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import struct

import lz4.block
import lz4.frame
import pytest
import zstandard

from verify.errors import TargetError
from verify.target import load_kernel

ORDERS = ("6.1", "6.3", "6.12", "newest")


def legacy_lz4(data: bytes) -> bytes:
    block = lz4.block.compress(data, store_size=False)
    return b"\x02\x21\x4c\x18" + struct.pack("<I", len(block)) + block + struct.pack("<I", len(data))


CONTAINERS = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "zstd": lambda data: zstandard.compress(data),
    "zstd-unsized": lambda data: zstandard.ZstdCompressor(write_content_size=False).compress(data),
    "lz4": lz4.frame.compress,
    "legacy-lz4": legacy_lz4,
}


@pytest.mark.parametrize("order", ORDERS)
def test_symbols_are_recovered_from_every_order_of_kallsyms(make, order):
    kernel = load_kernel(make.image(order), "vmlinuz", "vmlinuz")
    assert kernel.segments[0].address == make.base
    assert len(kernel.symbols) == 600
    for name, offset in make.symbols():
        assert kernel.symbol(name[1:]).address == make.base + offset
    assert kernel.symbol("no_such_symbol") is None


@pytest.mark.parametrize("order", ["6.1", "6.3", "6.12"])
def test_base_is_read_from_the_tables_when_nothing_is_relocated(make, order):
    kernel = load_kernel(make.image(order, relocated=False), "vmlinuz", "vmlinuz")
    assert kernel.symbol("_text").address == make.base


def test_base_is_right_when_the_tables_leave_out_the_start(make):
    # Without CONFIG_KALLSYMS_ALL the first symbol, and so relative_base, is _stext.
    kernel = load_kernel(make.image("6.1", table=make.symbols()[1:]), "vmlinuz", "vmlinuz")
    assert kernel.segments[0].address == make.base
    assert kernel.symbol("_text") is None
    assert kernel.symbol("_stext").address == make.base + 0x40


def test_sizes_reach_to_the_next_symbol(make):
    kernel = load_kernel(make.image(), "vmlinuz", "vmlinuz")
    assert kernel.symbol("_stext").size == 0xC0
    assert kernel.symbol("Xy" * 90).size is None
    assert kernel.symbol_before(make.base + 0x104).name == "machine_kexec_post_load"
    assert kernel.symbol_before(make.base - 1) is None
    assert kernel.symbols_at(make.base + 0x100) == ["machine_kexec_post_load"]
    assert kernel.symbols_at(make.base + 0x101) == []


def test_relocated_words_hold_what_the_boot_code_puts_there(make):
    kernel = load_kernel(make.image(), "vmlinuz", "vmlinuz")
    assert kernel.read(make.base + 0x2010, 8) == struct.pack("<Q", make.base + 0x100)


def test_facts_of_the_header_and_the_banner(make):
    kernel = load_kernel(make.image(), "vmlinuz", "vmlinuz-6.1")
    assert (kernel.name, kernel.format, kernel.page_size) == ("vmlinuz-6.1", "image", 4096)
    assert kernel.version == "6.1.0-56-arm64"
    assert kernel.build_id == make.build_id


@pytest.mark.parametrize(("flags", "page_size"), [(0, None), (2, 4096), (4, 16384), (6, 65536)])
def test_page_size_comes_from_the_flags(make, flags, page_size):
    assert load_kernel(make.image(flags=flags), "vmlinuz", "vmlinuz").page_size == page_size


def test_note_of_the_vdso_is_not_the_kernels(make):
    data = bytearray(make.image())
    vdso = make.elf(notes=make.note.replace(bytes(range(20)), b"\xee" * 20)).build()
    data[0x1000 : 0x1000 + len(vdso)] = vdso
    assert load_kernel(bytes(data), "vmlinuz", "vmlinuz").build_id == make.build_id


@pytest.mark.parametrize("kind", CONTAINERS)
def test_containers_are_unpacked(make, kind):
    plain = make.image()
    kernel = load_kernel(CONTAINERS[kind](plain), "vmlinuz", "vmlinuz")
    assert kernel.sha256 == load_kernel(plain, "vmlinuz", "vmlinuz").sha256


def test_efi_zboot_is_unpacked(make):
    packed = make.zboot(gzip.compress(make.image()))
    assert load_kernel(packed, "vmlinuz", "vmlinuz").symbol("_text").address == make.base


@pytest.mark.parametrize("kind", CONTAINERS)
def test_cut_containers_are_refused(make, kind):
    packed = CONTAINERS[kind](make.image())
    for size in {8, len(packed) // 3, len(packed) // 2, len(packed) - 9}:
        with pytest.raises(TargetError, match=r"expected .*, found "):
            load_kernel(packed[:size], "vmlinuz", "vmlinuz")


@pytest.mark.parametrize("size", [8, 63, 64, 100])
def test_cut_zboot_is_refused(make, size):
    with pytest.raises(TargetError, match="zboot"):
        load_kernel(make.zboot(gzip.compress(make.image()))[:size], "vmlinuz", "vmlinuz")


def test_big_endian_image_is_refused(make):
    with pytest.raises(TargetError, match="expected a little-endian kernel, found a big-endian one"):
        load_kernel(make.image(flags=0xB), "vmlinuz", "vmlinuz")


def test_image_without_kallsyms_is_refused(make):
    with pytest.raises(TargetError, match="kallsyms"):
        load_kernel(make.image()[: make.tables_at], "vmlinuz", "vmlinuz")


@pytest.mark.parametrize("order", ORDERS)
def test_images_cut_anywhere_are_loaded_or_refused(make, order):
    data = make.image(order)
    for size in [*range(64, len(data), 1024), *range(make.tables_at, len(data), 640)]:
        loads_or_is_refused(data[:size])


@pytest.mark.parametrize("order", ORDERS)
def test_corrupt_images_are_loaded_or_refused(make, order):
    chance = random.Random(f"image {order}")
    data = make.image(order)
    for _ in range(60):
        bad = bytearray(data)
        for _ in range(chance.choice((1, 2, 8, 64))):
            bad[chance.randrange(make.tables_at, len(bad))] = chance.randrange(256)
        loads_or_is_refused(bytes(bad))


@pytest.mark.parametrize("order", ORDERS)
def test_a_wrong_marker_count_or_index_is_refused(make, order):
    data = bytearray(make.image(order))
    digits = data.find(b"0\x001\x002\x003\x00")
    data[digits : digits + 20] = b"0\x001\x002\x003\x004\x0055\x006\x007\x008\x009"[:20]
    with pytest.raises(TargetError, match="kallsyms"):
        load_kernel(bytes(data), "vmlinuz", "vmlinuz")


def loads_or_is_refused(data: bytes) -> None:
    try:
        kernel = load_kernel(data, "vmlinuz", "vmlinuz")
    except TargetError as error:
        assert "\n" not in str(error)
        assert "expected" in str(error)
    else:
        for symbol in kernel.symbols:
            assert kernel.symbols_at(symbol.address)
