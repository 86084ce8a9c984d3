"""What a run's report must say for the entry to count as reached: each part of it alone (no QEMU here)."""

from __future__ import annotations

import struct

import pytest
from kexec_verify.bare_metal import image as at
from kexec_verify.bare_metal.image import DATA, TEXT, Image
from kexec_verify.bare_metal.machine import Report
from kexec_verify.bare_metal.run import judged
from kexec_verify.bare_metal.scene import LISTS, Scene, routine, stub_set_vectors
from kexec_verify.bare_metal.startup import ENTERED, EXCEPTION_EL1, EXCEPTION_EL2

NOP = bytes.fromhex("1f2003d5")
ADDRESS = (1 << 48) - 1


def scene(list_name: str = LISTS[1], stub: bytes | None = None, page_size: int = 4096) -> Scene:
    return routine(NOP, 648, page_size, list_name, stub)


def pages(of: Scene) -> bytearray:
    found = bytearray(of.image.data)
    size = of.image.page_size
    for dest, source in of.copied:
        found[dest * size : (dest + 1) * size] = of.image.page(source)
    return found


def report(of: Scene, changed: dict[int, int] | None = None, after: bytes | None = None) -> Report:
    values = [*of.exits, 0x3C0, of.currentel, of.sctlr, 0x30C5_0830, *[0] * 8]
    for index, value in (changed or {}).items():
        values[index] = value
    return Report(ENTERED, tuple(values), bytes(after if after is not None else pages(of)))


@pytest.mark.parametrize("stub", [None, NOP])
@pytest.mark.parametrize("name", LISTS)
def test_report_of_a_sound_run_is_accepted(name, stub):
    of = scene(name, stub)
    assert judged(of, report(of)).entered


# Index in the report, a value, and what must be told.
WRONG = [
    (0, 0, "x0 = 0x0, not"),
    (1, 1, "x1 = 0x1, not 0x0"),
    (2, 1, "x2 = 0x1, not 0x0"),
    (3, 1, "x3 = 0x1, not 0x0"),
    (4, 0x340, "DAIF = 0x340"),
    (5, 4, "CurrentEL = 0x4, not 0x8"),
    (6, 0x3050_0808, "SCTLR_EL1 = 0x30500808, not 0x30500800"),
    (7, 0x30C5_0831, "SCTLR_EL2 = 0x30c50831"),
    (7, 0x30C5_0834, "SCTLR_EL2"),
    (7, 0x32C5_0830, "SCTLR_EL2"),
]


@pytest.mark.parametrize(("index", "value", "told"), WRONG)
def test_wrong_register_is_told(index, value, told):
    of = scene(stub=NOP)
    outcome = judged(of, report(of, {index: value}))
    assert not outcome.entered
    assert told in outcome.reason


@pytest.mark.parametrize("slot", [*at.DEST, *at.BESIDE, at.START, at.DTB])
def test_wrong_page_is_told(slot):
    of = scene()
    after = pages(of)
    after[slot * 4096 + 4088] ^= 1
    outcome = judged(of, report(of, after=after))
    assert not outcome.entered
    assert f"{of.image.pa(slot):#x}, wrong from its byte 0xff8 on" in outcome.reason


@pytest.mark.parametrize("status", [0, EXCEPTION_EL1, EXCEPTION_EL2, 4, 1 << 56])
def test_no_other_end_is_the_entry(status):
    of = scene()
    good = report(of)
    assert not judged(of, Report(status, good.values, good.pages)).entered


SECOND_HVC = 0x5A00_0001


@pytest.mark.parametrize(
    ("syndrome", "offset", "pstate", "entered"),
    [
        (SECOND_HVC, 8, 0x3C5, True),
        (SECOND_HVC - 1, 8, 0x3C5, False),
        (0x0200_0000, 8, 0x3C5, False),
        (SECOND_HVC, 4, 0x3C5, False),
        (SECOND_HVC, 8, 0x345, False),
    ],
)
def test_vectors_are_set_only_if_the_second_hvc_tells(syndrome, offset, pstate, entered):
    of = stub_set_vectors(NOP, 4096)
    values = (8, syndrome, of.registers.entry + offset, 0, pstate, *[0] * 11)
    assert judged(of, Report(EXCEPTION_EL2, values, b"")).entered is entered
    assert not judged(of, Report(ENTERED, values, bytes(of.image.data))).entered


def mapped(image: Image, root: int, bits: int) -> dict[int, int]:
    """What the tables from ``root`` on map: input addresses to descriptors."""
    shift = image.page_size.bit_length() - 1
    width = shift - 3

    def walk(table: int, level: int, above: int) -> dict[int, int]:
        found: dict[int, int] = {}
        for index in range(1 << width):
            (entry,) = struct.unpack_from("<Q", image.data, table - at.WORK + 8 * index)
            here = above | index << shift + level * width
            if entry and level:
                found |= walk(entry & ADDRESS & ~(image.page_size - 1), level - 1, here)
            elif entry:
                found[here] = entry
        return found

    return walk(root & ADDRESS, (bits - shift) // width - 1, 0)


@pytest.mark.parametrize(("page_size", "bits"), [(4096, 39), (16384, 36), (65536, 42)])
def test_tables_map_what_they_must_and_nothing_else(page_size, bits):
    of = scene(page_size=page_size)
    image, low = of.image, (1 << bits) - 1
    code = {image.pa(at.CODE): image.pa(at.CODE) | TEXT}
    assert mapped(image, of.registers.ttbr0, bits) == code
    kimage = {image.va(at.KIMAGE) & low: image.pa(at.KIMAGE) | DATA}
    assert mapped(image, of.registers.ttbr1, bits) == kimage
    (ttbr1,) = struct.unpack("<Q", image.page(at.KIMAGE)[648 + 32 :][:8])
    linear = (at.KIMAGE, at.LIST_A, at.LIST_B, at.START, at.DTB, *at.DEST, *at.BESIDE, *at.SOURCE)
    assert mapped(image, ttbr1, bits) == {image.va(slot) & low: image.pa(slot) | DATA for slot in linear}
    assert mapped(image, image.pa(at.ZERO_PAGE), bits) == {}


def test_code_that_leaves_no_room_for_vectors_is_refused():
    with pytest.raises(ValueError, match="at most 2048 bytes"):
        routine(NOP * 513, 648, 4096, LISTS[0])


def test_stub_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="at most 16384 bytes"):
        scene(stub=NOP * 4097)
