"""Make scenes of the bare machine: a function's bytes, its state at entry, and the required end."""

from __future__ import annotations

import random
from dataclasses import dataclass

from kexec_verify.bare_metal import image as at
from kexec_verify.bare_metal.image import DATA, TEXT, Image, Registers
from kexec_verify.bare_metal.startup import (
    CALL_EL2,
    REPORT_EL1,
    REPORT_EL2,
    START,
    VECTORS_BYTES,
    code,
    vectors,
)
from kexec_verify.specs.boot_protocol import SCTLR_CLEARED, SCTLR_MMU_OFF
from kexec_verify.specs.hyp_stub import HVC_SET_VECTORS, HVC_SOFT_RESTART
from kexec_verify.specs.kimage import IND_DESTINATION, IND_DONE, IND_INDIRECTION, IND_SOURCE, KimageLayout

SCTLR_MMU_ON = 0x34F4_D91D
"""SCTLR_EL1 as Linux 6.1 runs with it: M, C, SA and I among others, not A."""
_HCR_RW = 1 << 31  # EL1 is in AArch64 state
_HCR_TSC = 1 << 19  # SMC traps to EL2
_FAR_STACK = 0xFFFF_8000_1234_0F00
"""SP of the old kernel: a multiple of 16 in the range of TTBR1 that no table maps."""
_EL1, _EL2 = 1 << 2, 2 << 2
_ASID = 1 << 48
_CLEARS = "__cpu_soft_restart"
"""Restart code of kernels before 5.11, which clears bits of SCTLR_EL1; later ones set all of it."""
"""Of the first TTBRs: QEMU's TLB forgets the old table only if a write of TTBR changes the ASID."""


@dataclass(frozen=True)
class Scene:
    """One run: its pages, the state at its first instruction, and what must hold at its end.

    :param general: x0 to x30 at the first instruction.
    :param exits: values of x0 and so on at the entry.
    :param currentel: CurrentEL at the entry.
    :param sctlr: SCTLR_EL1 at the entry.
    :param copied: destination pages, and the source page that each must equal.
    :param code: name and physical address of the code under test, for messages.
    :param ends_at_el2: the run ends with an exception to the vectors that it installed, not at an entry.
    """

    image: Image
    registers: Registers
    general: tuple[int, ...]
    exits: tuple[int, ...]
    currentel: int
    sctlr: int
    copied: tuple[tuple[int, int], ...]
    code: tuple[str, int, int]
    ends_at_el2: bool = False


LISTS = ("one page", "two pages of list")


def routine(
    text: bytes, arch_offset: int, page_size: int, list_name: str, stub: bytes | None = None
) -> Scene:
    """Return the scene of a routine that takes a kimage: MMU on, its code in the idmap alone.

    The old kernel's TTBR1 table maps the kimage alone; the kimage's table maps list, sources,
    destinations and kimage.

    :param stub: the vectors at EL2; None where EL2 is another's, which answers no HVC.
    """
    image = Image(page_size)
    layout = KimageLayout(arch_offset)
    _put_code(image, text)
    copied, head = _put_list(image, list_name)
    old = image.table({image.va(at.KIMAGE): image.pa(at.KIMAGE) | DATA})
    linear = (at.KIMAGE, at.LIST_A, at.LIST_B, at.START, at.DTB, *at.DEST, *at.BESIDE, *at.SOURCE)
    new = image.table({image.va(slot): image.pa(slot) | DATA for slot in linear})
    idmap = image.table({image.pa(at.CODE): image.pa(at.CODE) | TEXT})
    image.put(at.KIMAGE, 0, random.Random("kimage").randbytes(page_size))
    for offset, value in (
        (layout.head, head),
        (layout.start, image.pa(at.START)),
        (layout.control_code_page, image.pa(at.CODE)),
        (layout.dtb_mem, image.pa(at.DTB)),
        (layout.kern_reloc, image.pa(at.CODE)),
        (layout.el2_vectors, 0 if stub is None else image.pa(at.STUB)),
        (layout.ttbr0, idmap),
        (layout.ttbr1, new),
        (layout.zero_page, image.pa(at.ZERO_PAGE)),
        (layout.phys_offset, image.phys_offset),
        (layout.t0sz, image.tcr & 0x3F),
    ):
        image.put_words(at.KIMAGE, offset, [value])
    general = _general({0: image.va(at.KIMAGE)})
    exits = (image.pa(at.DTB), 0, 0, 0)
    registers = _registers(image, SCTLR_MMU_ON, idmap | _ASID, old | _ASID, stub)
    el = _EL1 if stub is None else _EL2
    name = ("routine", image.pa(at.CODE), len(text))
    return Scene(image, registers, general, exits, el, SCTLR_MMU_OFF, copied, name)


def sctlr_left_by(name: str) -> int:
    """Return the SCTLR_EL1 that the restart code called ``name`` must set."""
    return SCTLR_MMU_ON & ~SCTLR_CLEARED if name == _CLEARS else SCTLR_MMU_OFF


def soft_restart(text: bytes, page_size: int, stub: bytes | None = None, sctlr: int = SCTLR_MMU_OFF) -> Scene:
    """Return the scene of the restart code on the idmap, which maps only its page; via EL2 with a stub.

    :param sctlr: SCTLR_EL1 that it must leave.
    """
    image = Image(page_size)
    _put_code(image, text)
    idmap = image.table({image.pa(at.CODE): image.pa(at.CODE) | TEXT})
    arguments = (image.pa(at.DTB), 0x1111_2222_3333, 0x4444_5555_6666)
    general = _general(
        {0: 0 if stub is None else 1, 1: image.pa(at.START), **dict(zip((2, 3, 4), arguments, strict=True))}
    )
    registers = _registers(image, SCTLR_MMU_ON, idmap | _ASID, image.pa(at.ZERO_PAGE), stub)
    el = _EL1 if stub is None else _EL2
    exits = (*arguments, arguments[1])
    return Scene(image, registers, general, exits, el, sctlr, (), ("restart", image.pa(at.CODE), len(text)))


def stub_restart(stub: bytes, page_size: int) -> Scene:
    """Return the scene of HVC_SOFT_RESTART, sent to the stub by code at EL1 with the MMU off."""
    image = Image(page_size)
    image.put(at.CALLER, 0, code(CALL_EL2))
    arguments = (image.pa(at.DTB), 0x1111_2222_3333, 0x4444_5555_6666)
    general = _general(
        {
            0: HVC_SOFT_RESTART,
            1: image.pa(at.START),
            **dict(zip((2, 3, 4), arguments, strict=True)),
        }
    )
    return _stub_scene(image, stub, general, (*arguments, arguments[1]))


def stub_set_vectors(stub: bytes, page_size: int) -> Scene:
    """Return the scene of HVC_SET_VECTORS from EL1; its second HVC goes to the vectors that it set."""
    image = Image(page_size)
    image.put(at.CALLER, 0, code(CALL_EL2))
    general = _general({0: HVC_SET_VECTORS, 1: image.pa(at.EL2_VECTORS)})
    return _stub_scene(image, stub, general, (0,), ends_at_el2=True)


def _stub_scene(
    image: Image,
    stub: bytes,
    general: tuple[int, ...],
    exits: tuple[int, ...],
    ends_at_el2: bool = False,
) -> Scene:
    image.put(at.CODE, VECTORS_BYTES, vectors(REPORT_EL1))
    image.put(at.START, 0, code(START))
    registers = _registers(image, SCTLR_MMU_OFF, 0, 0, stub, image.pa(at.CALLER))
    name = ("stub", image.pa(at.STUB), len(stub))
    return Scene(image, registers, general, exits, _EL2, SCTLR_MMU_OFF, (), name, ends_at_el2)


def _put_code(image: Image, text: bytes) -> None:
    """Write the code under test, and into the same page EL1's vectors: no other page is always mapped.

    :raises ValueError: if it leaves no room for them.
    """
    if len(text) > VECTORS_BYTES:
        raise ValueError(f"expected code of at most {VECTORS_BYTES} bytes, found {len(text)}")
    image.put(at.CODE, 0, text)
    image.put(at.CODE, VECTORS_BYTES, vectors(REPORT_EL1))
    image.put(at.START, 0, code(START))


def _put_list(image: Image, name: str) -> tuple[tuple[tuple[int, int], ...], int]:
    """Write a list; return what it copies, and the kimage's head."""

    def words(slot: int, *entries: tuple[int, int]) -> None:
        image.put_words(slot, 0, [image.pa(page) | flag for page, flag in entries])

    head = image.pa(at.LIST_A) | IND_INDIRECTION
    d0, d1, d2, d3 = at.DEST
    s0, s1, s2, s3 = at.SOURCE
    if name == LISTS[0]:
        words(at.LIST_A, (d0, IND_DESTINATION), (s0, IND_SOURCE))
        image.put_words(at.LIST_A, 16, [IND_DONE])
        return ((d0, s0),), head
    words(
        at.LIST_A,
        (d0, IND_DESTINATION),
        (s0, IND_SOURCE),
        (s1, IND_SOURCE),
        (at.LIST_B, IND_INDIRECTION),
    )
    words(at.LIST_B, (d2, IND_DESTINATION), (s2, IND_SOURCE), (s3, IND_SOURCE))
    image.put_words(at.LIST_B, 24, [IND_DONE])
    return ((d0, s0), (d1, s1), (d2, s2), (d3, s3)), head


def _general(known: dict[int, int]) -> tuple[int, ...]:
    """Return x0 to x30: known values, and numbers that are no valid address."""
    return tuple(known.get(i, 0x5A00_0000_0000_0001 | i << 40 | i << 8) for i in range(31))


def _registers(
    image: Image, sctlr: int, ttbr0: int, ttbr1: int, stub: bytes | None, entry: int | None = None
) -> Registers:
    image.put(at.EL2_VECTORS, 0, vectors(REPORT_EL2))
    if stub is not None:
        room = at.STUB_SLOTS * image.page_size
        if len(stub) > room:
            raise ValueError(f"expected a stub of at most {room} bytes, found {len(stub)}")
        image.put(at.STUB, 0, stub)
    return Registers(
        hcr_el2=_HCR_RW | (_HCR_TSC if stub is None else 0),
        vbar_el2=image.pa(at.EL2_VECTORS if stub is None else at.STUB),
        vbar_el1=image.pa(at.CODE) + VECTORS_BYTES,
        ttbr0=ttbr0,
        ttbr1=ttbr1,
        sctlr_el1=sctlr,
        sp_el1=_FAR_STACK,
        entry=image.pa(at.CODE) if entry is None else entry,
        tcr=image.tcr,
    )
