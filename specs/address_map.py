"""How the kernel's addresses relate to physical ones.

Sources: arch/arm64/include/asm/memory.h (__kimg_to_phys, __lm_to_phys, __phys_to_virt,
kimage_voffset, PHYS_OFFSET, PAGE_END, page_to_virt, VMEMMAP_START),
arch/arm64/include/asm/pgtable-hwdef.h (TTBR_BADDR_MASK_52).
"""

from __future__ import annotations

from dataclasses import dataclass

from kexec_verify.logic import And, Formula, If, Implies, Or, Term, aligned, const, shift_right, ule, ult

TTBR_CNP = 1  # TTBR_ELx.CnP: entries may be shared with other CPUs
ASID_SHIFT = 48  # TTBR_EL1.ASID, in the register that TCR_EL1.A1 chooses (the kernel: TTBR1)
T0SZ_MASK = 0x3F  # TCR_EL1.T0SZ
STRUCT_PAGE_SHIFT = 6  # struct page has 64 bytes (_struct_page_alignment)
_GIGABYTE = 1 << 30
_PCI_IO_GAP = 2 << 20  # above the struct pages up to 5.10 (VMEMMAP_START, SZ_2M)


@dataclass(frozen=True)
class AddressMap:
    """The image lies ``kimage_voffset`` above its physical place, the linear map at ``page_offset``.

    Both of the first are 64-bit words that boot sets once; ``page_offset`` and ``page_end``
    are the linear map's first address and the first after it; ``folds_ttbr`` is is_table's.
    """

    kimage_voffset: Term
    memstart_addr: Term
    page_offset: int
    page_end: int
    folds_ttbr: bool | None = None

    def image_to_phys(self, address: Term | int) -> Term:
        """Physical address of something in the kernel's image."""
        return (const(address) if isinstance(address, int) else address) - self.kimage_voffset

    def phys_to_linear(self, physical: Term) -> Term:
        """Return the linear map's address of a physical address."""
        return (physical - self.memstart_addr) | self.page_offset

    def linear_to_phys(self, address: Term) -> Term:
        """Physical address of something in the linear map."""
        return address - self.page_offset + self.memstart_addr

    def in_linear_map(self, address: Term) -> Formula:
        """``address`` is one of the linear map."""
        return ult(address - self.page_offset, const(self.page_end - self.page_offset))

    def shows(self, start: Term, end: Term) -> Formula:
        """The bytes from ``start`` up to ``end`` are addresses of the linear map."""
        size = const(self.page_end - self.page_offset)
        return And(self.in_linear_map(start), ule(end - self.page_offset, size))

    def is_page(self, address: Term, struct_page: Term, page_size: int) -> Formula:
        """``address`` is the linear map's address of the page whose struct page ``struct_page`` points to."""
        first = first_struct_pages(self.page_offset, page_size)
        numbers = [shift_right(struct_page - at, const(STRUCT_PAGE_SHIFT)) for at in first]
        return Or(*(address == self.page_offset + number * page_size for number in numbers))

    def page_to_phys(self, struct_page: Term, page_size: int, first: int) -> Term:
        """Physical address of the page whose struct page ``struct_page`` points to.

        :param first: address of the struct page of the linear map's first page.
        """
        return self.memstart_addr + shift_right(struct_page - first, const(STRUCT_PAGE_SHIFT)) * page_size

    @property
    def address_bits(self) -> tuple[int, int]:
        """Bits of virtual addresses: VA_BITS, and VA_BITS_MIN, of which the linear map is half."""
        va_bits = (-self.page_offset % (1 << 64)).bit_length() - 1
        return va_bits, (-self.page_end % (1 << 64)).bit_length()

    def memory(self, physical: Term) -> Formula:
        """The linear map covers the address ``physical``."""
        return ult(physical - self.memstart_addr, const(self.page_end - self.page_offset))


def linear_map_end(page_offset: int, page_size: int) -> int:
    """The first address after the linear map (_PAGE_END(VA_BITS_MIN)).

    A kernel with 52-bit addresses is one with 48, or 47 with 16K pages, where the CPU has no more.
    """
    va_bits = (-page_offset % (1 << 64)).bit_length() - 1
    va_bits_min = va_bits if va_bits <= 48 else 47 if page_size == 1 << 14 else 48
    return -(1 << (va_bits_min - 1)) % (1 << 64)


def first_struct_pages(page_offset: int, page_size: int, early: bool = False) -> tuple[int, int]:
    """Address of the struct page of the linear map's first page: from 5.11 on, and from 6.9 on.

    :param early: of kernels before 5.12 instead: from 5.11 on, and from 5.4 to 5.10.
    """
    va_bits = (-page_offset % (1 << 64)).bit_length() - 1
    shift = page_size.bit_length() - 1 - STRUCT_PAGE_SHIFT
    linear_map_bytes = linear_map_end(page_offset, page_size) - page_offset
    later = -(_PCI_IO_GAP if early else _GIGABYTE) - (linear_map_bytes >> shift)
    return -(1 << (va_bits - shift)) % (1 << 64), later % (1 << 64)


def folded(physical: Term) -> Term:
    """A physical address of up to 52 bits as a TTBR has it (asm/assembler.h, phys_to_ttbr)."""
    return (physical | shift_right(physical, const(46))) & 0x0000_FFFF_FFFF_FFFC


def is_table(ttbr: Term, physical: Term, folds: bool | None, offset: Term | int = 0) -> Formula:
    """``ttbr`` names the table at ``physical``, with CnP or without.

    :param folds: whether the kernel is built for physical addresses of 52 bits, which a TTBR has
        folded; None where that is not known. Then tables are at multiples of 4 KiB below 2^48
        (physical-48-bits), of which the folded value is the plain one.
    :param offset: bits that are set besides.
    """
    value = ttbr & ~TTBR_CNP
    if folds:
        return value == ((folded(physical) & ~TTBR_CNP) | offset)
    plain = value == ((physical & ~TTBR_CNP) | offset)
    if folds is False:
        return plain
    return Implies(And(ult(physical, const(1 << 48)), aligned(physical, 4096)), plain)


def kernel_addresses(tcr: Term) -> Formula:
    """TCR_EL1.T1SZ gives the kernel's addresses as many bits as a kernel has, 36 to 52."""
    return And(ule(const(12, 6), tcr[21:16]), ule(tcr[21:16], const(28, 6)))


def ttbr1_offset(tcr: Term) -> Term:
    """What TTBR1_EL1 has besides its table, 64 KiB pages, in a kernel with 52-bit virtual addresses.

    Such a kernel sets TTBR1_BADDR_4852_OFFSET (asm/pgtable-hwdef.h) on a CPU with 48 bits, of which
    TCR_EL1.T1SZ is 16 (asm/assembler.h, offset_ttbr1).
    """
    return If(tcr[21:16] == 16, const(0x1E00), const(0))


def same_table(left: Term, right: Term) -> Formula:
    """Two values of a TTBR that differ in the ASID alone."""
    mask = (1 << ASID_SHIFT) - 1
    return (left & mask) == (right & mask)


def t0sz_is(tcr: Term, before: Term, t0sz: Term) -> Formula:
    """``tcr`` is ``before`` with T0SZ set to ``t0sz``, and that is a T0SZ."""
    return And(ule(t0sz, const(T0SZ_MASK)), tcr == ((before & ~T0SZ_MASK) | t0sz))
