"""What machine_kexec_post_load leaves behind.

Source: arch/arm64/kernel/machine_kexec.c (machine_kexec_post_load, kexec_segment_flush).
"""

from __future__ import annotations

from dataclasses import dataclass

from kexec_verify.logic import And, Formula, Or, Term, const, normal, ule, ult
from kexec_verify.specs.address_map import AddressMap


@dataclass(frozen=True)
class Segment:
    """One segment of the new kernel: where it will be and how long it is, physical, in bytes."""

    mem: Term
    memsz: Term

    def in_memory(self, addresses: AddressMap) -> Formula:
        """All of it is RAM that the linear map covers."""
        size = addresses.page_end - addresses.page_offset
        offset = self.mem - addresses.memstart_addr
        return And(ult(offset, const(size)), ule(self.memsz, const(size) - offset))

    def holds(self, addresses: AddressMap, address: Term) -> Formula:
        """``address``, one of the linear map, shows a byte of the segment."""
        start = normal(addresses.phys_to_linear(self.mem))
        return And(ule(start, address), ult(address, normal(start + self.memsz)))


def is_linear_map(addresses: AddressMap, start: Term, end: Term, tcr: Term) -> Formula:
    """The addresses from ``start`` up to ``end`` are those of the linear map.

    It starts at PAGE_OFFSET, or where the CPU's addresses start (_PAGE_OFFSET(vabits_actual)), of which
    TCR_EL1.T1SZ, bits 21 to 16, tells how many bits they have.
    """
    bits = -tcr[21:16].zero_extend(58) & 0x3F
    actual = const(-1) << bits
    starts = Or(start == addresses.page_offset, start == actual)
    if not addresses.has_shadow:
        return And(starts, end == addresses.page_end)
    # KASAN_SHADOW_START: the shadow has a byte for each 8 of the CPU's addresses (asm/memory.h).
    built = end == addresses.page_end - ((-addresses.page_offset % (1 << 64)) >> 3)
    return And(starts, Or(built, end == addresses.page_end - (const(1) << (bits - 3))))


@dataclass(frozen=True)
class Prepared:
    """The fields of struct kimage after a successful load of an image that must be relocated."""

    kern_reloc: Term
    ttbr1: Term
    zero_page: Term
    phys_offset: Term

    def points_at(self, addresses: AddressMap, control_page: Term) -> Formula:
        """kern_reloc is the physical address of the control page."""
        return self.kern_reloc == addresses.linear_to_phys(control_page)

    def maps(self, addresses: AddressMap, table: Term, zero_page: int, kimage: Term) -> Formula:
        """The routine finds the copy of the linear map, the zero page and the linear map's offset."""
        return And(
            self.ttbr1 == addresses.linear_to_phys(table),
            self.zero_page == addresses.image_to_phys(zero_page),
            self.phys_offset == addresses.linear_to_phys(kimage) - kimage,
        )
