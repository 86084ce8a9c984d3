"""The loaded image, as struct kimage says: its fields, its segments, its control page."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from kexec_verify.live.placement import Placement
from kexec_verify.live.stop import Stop
from kexec_verify.specs.address_map import STRUCT_PAGE_SHIFT, first_struct_pages
from kexec_verify.specs.kimage import IND_DONE, KEXEC_SEGMENT_MAX, SEGMENT_BYTES, SEGMENT_MEM, SEGMENT_MEMSZ

_FIELDS = (
    *("head", "start", "control_code_page", "nr_segments", "dtb_mem", "kern_reloc", "el2_vectors"),
    *("ttbr0", "ttbr1", "zero_page", "phys_offset", "t0sz"),
)
_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Kimage:
    """struct kimage at one moment.

    :param address: virtual.
    :param raw: its bytes up to the last field that the routine may read.
    :param fields: 64-bit fields by name.
    :param segments: physical address and size in bytes of each.
    :param control: physical address of the control page.
    """

    address: int
    raw: bytes
    fields: dict[str, int]
    segments: tuple[tuple[int, int], ...]
    control: int

    def __getitem__(self, name: str) -> int:
        return self.fields[name]

    @property
    def in_place(self) -> bool:
        """Nothing is copied: head has IND_DONE."""
        return bool(self["head"] & IND_DONE)


def kimage_at(place: Placement, stop: Stop, address: int) -> Kimage:
    """Return struct kimage at a virtual address."""
    layout = place.linked.layout
    raw = stop.read(address, layout.size)
    fields = {name: _word(raw, getattr(layout, name)) for name in _FIELDS}
    number = min(fields["nr_segments"], KEXEC_SEGMENT_MAX)
    starts = [layout.segment + SEGMENT_BYTES * index for index in range(number)]
    segments = tuple((_word(raw, at + SEGMENT_MEM), _word(raw, at + SEGMENT_MEMSZ)) for at in starts)
    return Kimage(address, raw, fields, segments, _control_page(place, fields["control_code_page"]))


def _word(raw: bytes, offset: int) -> int:
    (found,) = struct.unpack_from("<Q", raw, offset)
    return int(found)


def _control_page(place: Placement, struct_page: int) -> int:
    """Return the physical address of the page that a pointer to a struct page stands for; 0 if of none.

    Kernels from 5.11 and from 6.9 on have different addresses of the first struct page (VMEMMAP_START).
    """
    page = place.linked.page_size
    for first in first_struct_pages(place.context.page_offset, page):
        number = (struct_page - first & _MASK) >> STRUCT_PAGE_SHIFT
        physical = place.linear_to_phys(place.context.page_offset + number * page)
        if place.guest.is_ram(physical, page):
            return physical
    return 0
