"""Raw and compressed Images: their base, symbols, relocated words, and damage to any of them."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import random
import struct

import lz4.block
import lz4.frame
import pytest
import zstandard
from kexec_verify.errors import TargetError
from kexec_verify.target import kallsyms, load_kernel

ORDERS = ("6.1", "6.3", "6.12", "newest", "7.0", "7.0 at 4 mod 8")


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
    plain = load_kernel(make.image(), "vmlinuz", "vmlinuz")
    packed = CONTAINERS[kind](make.image())
    kernel = load_kernel(packed, "vmlinuz", "vmlinuz")
    assert kernel.segments == plain.segments
    assert kernel.sha256 == hashlib.sha256(packed).hexdigest()


@pytest.mark.parametrize("kind", CONTAINERS)
def test_bytes_behind_a_container_are_refused_but_the_size(make, kind):
    plain = make.image()
    packed = CONTAINERS[kind](plain)
    if kind != "legacy-lz4":  # has it already
        load_kernel(packed + struct.pack("<I", len(plain)), "vmlinuz", "vmlinuz")
    for behind in (b"\1", bytes(4), b"another stream", packed, bytes(5000)):
        with pytest.raises(TargetError, match=r"expected (nothing behind )?an Image compressed with"):
            load_kernel(packed + behind, "vmlinuz", "vmlinuz")


@pytest.mark.parametrize("kind", ["gzip", "zboot"])
def test_hash_of_a_container_covers_what_is_not_unpacked(make, kind):
    packed = gzip.compress(make.image(), mtime=0)
    at = 4  # the time in gzip's header
    if kind == "zboot":
        packed, at = make.zboot(packed) + b"stub", -1
    changed = bytearray(packed)
    changed[at] ^= 1
    kernels = [load_kernel(bytes(data), "vmlinuz", "vmlinuz") for data in (packed, changed)]
    assert kernels[0].segments == kernels[1].segments
    assert kernels[0].sha256 != kernels[1].sha256


def pe(data: bytes, sections=None, certificate: bytes = b"", gap: int = 0) -> bytes:
    """The Image *data* with the PE header of an EFI kernel, and a signature behind it."""
    out = bytearray(data) + bytes(gap) + certificate
    sections = sections or [(0x1000, 0x1000), (0x2000, len(data) - 0x2000)]
    struct.pack_into("<I", out, 60, 64)
    struct.pack_into("<4sHH12xHH", out, 64, b"PE\0\0", 0xAA64, len(sections), 160, 0x206)
    struct.pack_into("<I", out, 64 + 24 + 108, 6)
    if certificate:
        struct.pack_into("<II", out, 64 + 24 + 112 + 32, len(data) + gap, len(certificate))
    for row, (offset, size, *address) in enumerate(sections):
        at = 64 + 24 + 160 + 40 * row
        struct.pack_into("<8sIIII", out, at, b".text", size, *(address or [offset]), size, offset)
    return bytes(out)


def test_a_signature_is_not_loaded_but_hashed(make):
    data = aligned(make.image())
    kernel = load_kernel(pe(data, certificate=b"signature"), "vmlinuz", "vmlinuz")
    assert kernel.segments[0].end - make.base == len(data)
    other = load_kernel(pe(data, certificate=b"Signature"), "vmlinuz", "vmlinuz")
    assert other.segments == kernel.segments
    assert other.sha256 != kernel.sha256


def aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


@pytest.mark.parametrize(
    ("behind", "gap"), [(b"x", 0), (b"", 1), (b"", 512), (b"certificate", 8)], ids=["byte", "1", "512", "far"]
)
def test_bytes_behind_the_sections_are_refused(make, behind, gap):
    certificate = behind if behind == b"certificate" else b""
    data = pe(aligned(make.image()), certificate=certificate, gap=gap)
    with pytest.raises(TargetError, match="expected nothing but a signature behind the Image"):
        load_kernel(data if certificate else data + behind, "vmlinuz", "vmlinuz")


def test_sections_that_are_loaded_elsewhere_are_refused(make):
    data = aligned(make.image())
    with pytest.raises(TargetError, match="where they are in the file, found one of offset 0x1000 at 0x2000"):
        load_kernel(pe(data, [(0x1000, len(data) - 0x1000, 0x2000)]), "vmlinuz", "vmlinuz")
    with pytest.raises(TargetError, match=r"expected an Image up to byte \d+, found"):
        load_kernel(pe(data, [(0x1000, len(data))]), "vmlinuz", "vmlinuz")
    with pytest.raises(TargetError, match="PE sections, found 17"):
        load_kernel(pe(data, [(0x1000, 0)] * 17), "vmlinuz", "vmlinuz")


def test_bytes_behind_image_size_are_refused(make):
    data = make.image()
    full = data + bytes(0x200000 - len(data))
    load_kernel(full, "vmlinuz", "vmlinuz")
    with pytest.raises(TargetError, match="expected an Image of 2097152 bytes, found 1 bytes behind it"):
        load_kernel(full + b"x", "vmlinuz", "vmlinuz")


@pytest.mark.parametrize("offset", [1 << 60, 0x200000, 0x80])
def test_an_impossible_text_offset_is_refused(make, offset):
    data = bytearray(make.image())
    struct.pack_into("<Q", data, 8, offset)
    with pytest.raises(TargetError, match="expected a text_offset of whole pages below 0x200000"):
        load_kernel(bytes(data), "vmlinuz", "vmlinuz")


@pytest.mark.parametrize("code", ["asm", "c"])
@pytest.mark.parametrize("order", ORDERS)
def test_the_code_that_relocates_bounds_the_table(make, order, code):
    kernel = load_kernel(make.image(order, code=code), "vmlinuz", "vmlinuz")
    assert kernel.segments[0].address == make.base
    assert kernel.read(make.base + 0x2010, 8) == struct.pack("<Q", make.base + 0x100)


@pytest.mark.parametrize("text_offset", [0, 0x80000])
def test_offsets_from_kimage_vaddr_bound_the_table(make, text_offset):
    base = make.base + text_offset
    data = make.image("6.1", base=base, code="offsets", text_offset=text_offset)
    kernel = load_kernel(data, "vmlinuz", "vmlinuz")
    assert kernel.segments[0].address == base
    assert kernel.read(base + 0x2010, 8) == struct.pack("<Q", base + 0x100)


def test_a_table_that_nothing_bounds_is_refused(make):
    with pytest.raises(TargetError, match="bound the kernel's relocations, found neither"):
        load_kernel(make.image(code=None), "vmlinuz", "vmlinuz")


def test_a_longer_run_of_entries_is_not_taken_for_the_table(make):
    plain = make.image()
    bait = b"".join(struct.pack("<QQQ", make.base + 0x1000 + 8 * row, 0x403, make.base) for row in range(200))
    kernel = load_kernel(plain + bait, "vmlinuz", "vmlinuz")
    assert kernel.read(make.base + 0x1000, 8) == bytes(8)
    assert kernel.read(make.base + 0x2010, 8) == struct.pack("<Q", make.base + 0x100)


@pytest.mark.parametrize("away", [0, 24])
@pytest.mark.parametrize("code", [None, "c"])
def test_symbols_bound_the_table_and_must_agree_with_the_code(make, code, away):
    # The symbols' own length moves the table: the first Image only says where it is.
    table = [*make.symbols(), ("D__pi_rela_start", 0x7000), ("D__pi_rela_end", 0x7100)]
    start = make.image(table=table, code=code).find(struct.pack("<QQ", make.base + 0x2000, 0x403))
    table[-2:] = [("D__pi_rela_start", start), ("D__pi_rela_end", start + 24 * 41 - away)]
    data = make.image(table=table, code=code)
    if code is not None and away:
        with pytest.raises(
            TargetError, match=r"expected one relocation table, found .* by symbol, .* by code"
        ):
            load_kernel(data, "vmlinuz", "vmlinuz")
        return
    if not away:
        kernel = load_kernel(data, "vmlinuz", "vmlinuz")
        assert kernel.read(make.base + 0x2010, 8) == struct.pack("<Q", make.base + 0x100)


@pytest.mark.parametrize("order", ["6.12", "newest", "7.0", "7.0 at 4 mod 8"])
def test_words_of_a_relr_table_place_the_image(make, order):
    kernel = load_kernel(make.packed_image(order), "vmlinuz", "vmlinuz")
    assert kernel.segments[0].address == make.base
    assert kernel.symbol("machine_kexec_post_load").address == make.base + 0x100
    for place, value in make.packed:
        assert kernel.read(make.base + place, 8) == struct.pack("<Q", value and make.base + value)
    # The few entries of the other table are applied as ever.
    assert kernel.read(make.base + 0x1008, 8) == struct.pack("<Q", make.base + 0x208)


@pytest.mark.parametrize("behind", [0, 2 << 20, 6 << 20])
def test_of_several_addresses_that_hold_every_place_symbols_decide(make, behind):
    kernel = load_kernel(make.packed_image(behind=behind), "vmlinuz", "vmlinuz")
    assert kernel.segments[0].address == make.base


def test_more_addresses_than_any_kernel_leaves_open_are_refused(make):
    with pytest.raises(TargetError, match="expected one link address that fits the Image, found 21"):
        load_kernel(make.packed_image(behind=40 << 20), "vmlinuz", "vmlinuz")


@pytest.mark.parametrize(
    ("away", "found"),
    [(4, 0), (0x7FFF_0000, 0), (-0x1000, 0)],
    ids=["no symbol's", "behind the kernel", "before it"],
)
def test_values_that_no_address_explains_are_refused(make, away, found):
    entries = [(place, value and value + away) for place, value in make.packed]
    with pytest.raises(TargetError, match=f"expected one link address that fits the Image, found {found}"):
        load_kernel(make.packed_image(entries=entries), "vmlinuz", "vmlinuz")


def test_a_relative_base_that_the_relr_table_contradicts_is_refused(make):
    entries = [(place, value + (4 << 20)) for place, value in make.packed]
    with pytest.raises(TargetError, match="expected one link address that fits the Image, found 0"):
        load_kernel(make.packed_image("6.12", entries=entries), "vmlinuz", "vmlinuz")


def named_packed(make, away: int, code: bool = True) -> bytes:
    """A packed Image whose symbols name its tables, the end of the RELR table *away* from where it is."""
    names = ["__pi_rela_start", "__pi_rela_end", "__pi_relr_start", "__pi_relr_end"]
    table = [*make.symbols(), *((f"D{name}", 0x7000 + 8 * row) for row, name in enumerate(names))]
    data = make.packed_image(table=table, code=code)
    start = data.find(struct.pack("<QQ", make.base + 0x1000, 0x403))
    end = start + 7 * 24
    size = len(make.pack([make.base + place for place, _ in make.packed]))
    places = (start, end, end, end + size + away)
    table[-4:] = [(name, place) for (name, _), place in zip(table[-4:], places, strict=True)]
    return make.packed_image(table=table, code=code)


@pytest.mark.parametrize("code", [True, False])
def test_symbols_bound_the_relr_table(make, code):
    kernel = load_kernel(named_packed(make, 0, code), "vmlinuz", "vmlinuz")
    assert kernel.segments[0].address == make.base


def test_code_with_ever_more_tables_is_refused(make):
    data = bytearray(make.packed_image())
    start = data.find(struct.pack("<QQ", make.base + 0x1000, 0x403))
    for row in range(8):  # loops over one table, each with other addresses beside it
        at = 0x3500 + 0x100 * row
        words = make.relocate_packed(at, start, start + 7 * 24, start - 0x400 + 8 * row)
        data[at : at + len(words)] = words
    with pytest.raises(TargetError, match="expected one loop over relocations, found 9"):
        load_kernel(bytes(data), "vmlinuz", "vmlinuz")


def test_a_relr_table_that_symbols_and_code_bound_differently_is_refused(make):
    with pytest.raises(TargetError, match=r"expected one RELR table, found 0x\w+ to 0x\w+, 0x\w+ to"):
        load_kernel(named_packed(make, -8), "vmlinuz", "vmlinuz")


@pytest.mark.parametrize(("away", "found"), [(-4, "other words there"), (1 << 20, "a table from")])
def test_a_relr_table_that_is_none_is_refused(make, away, found):
    with pytest.raises(TargetError, match=f"expected .*, found {found}"):
        load_kernel(named_packed(make, away, code=False), "vmlinuz", "vmlinuz")


def test_without_the_relr_table_few_entries_place_no_image(make):
    data = make.packed_image(code=False)
    with pytest.raises(TargetError, match=r"expected one link address .*, found 0"):
        load_kernel(data, "vmlinuz", "vmlinuz")


def test_corrupt_packed_images_are_loaded_or_refused(make):
    chance = random.Random("packed")
    data = make.packed_image()
    for _ in range(150):
        bad = bytearray(data)
        for _ in range(chance.choice((1, 2, 8, 64))):
            bad[chance.randrange(0x1000, len(bad))] = chance.randrange(256)
        loads_or_is_refused(bytes(bad))


@pytest.mark.parametrize("order", ["newest", "7.0", "7.0 at 4 mod 8"])
def test_offsets_that_end_elsewhere_than_the_sequence_numbers_begin_are_refused(make, order):
    data = bytearray(make.image(order))
    at = data.rfind((598).to_bytes(3, "big") + (599).to_bytes(3, "big"))
    data[at + 3 : at + 6] = data[at : at + 3]  # one row twice, another never
    with pytest.raises(TargetError, match="expected a kernel's kallsyms tables, found none intact"):
        load_kernel(bytes(data), "vmlinuz", "vmlinuz")


def test_efi_zboot_is_unpacked(make):
    packed = make.zboot(gzip.compress(make.image()))
    assert load_kernel(packed, "vmlinuz", "vmlinuz").symbol("_text").address == make.base


@pytest.mark.parametrize("kind", CONTAINERS)
def test_cut_containers_are_refused(make, kind):
    packed = CONTAINERS[kind](make.image())
    for size in {8, len(packed) // 3, len(packed) // 2, len(packed) - 9}:
        with pytest.raises(TargetError, match=r"expected .*, found "):
            load_kernel(packed[:size], "vmlinuz", "vmlinuz")


def test_flipped_byte_in_a_legacy_lz4_block_is_refused(make):
    packed = bytearray(legacy_lz4(make.image()))
    for at in range(8, len(packed), 97):
        packed[at] ^= 0xFF
        with pytest.raises(TargetError, match=r"expected .*, found "):
            load_kernel(bytes(packed), "vmlinuz", "vmlinuz")


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


def test_false_tables_are_not_decoded_for_ever(make, monkeypatch):
    monkeypatch.setattr(kallsyms, "_MAX_BLOCKS", 4)  # 600 names are three blocks
    load_kernel(make.image(), "vmlinuz", "vmlinuz")
    monkeypatch.setattr(kallsyms, "_MAX_BLOCKS", 3)
    with pytest.raises(TargetError, match="kallsyms"):
        load_kernel(make.image(), "vmlinuz", "vmlinuz")


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


@pytest.mark.parametrize("name", ["_etext", "_einittext", "__init_end", "_edata"])
def test_image_that_ends_before_its_symbols_say_is_refused(make, name):
    table = [("T_text", 0), *((f"tf{row}", 0x200 + 8 * row) for row in range(600))]
    whole = make.image(table=[*table, (f"D{name}", 0x6000)])
    end = len(whole) // 8 * 8
    load_kernel(make.image(table=[*table, (f"D{name}", end)]), "vmlinuz", "vmlinuz")
    with pytest.raises(TargetError, match=f"expected an Image up to {name} at"):
        load_kernel(make.image(table=[*table, (f"D{name}", 0x10_0000)]), "vmlinuz", "vmlinuz")
