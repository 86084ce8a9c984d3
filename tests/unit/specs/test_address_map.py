"""Where struct pages stand, in the layouts that kernels have had."""

from __future__ import annotations

import pytest
from kexec_verify.logic import const, constant
from kexec_verify.specs.address_map import AddressMap, first_struct_pages, kernel_addresses

TOP = 1 << 64
P48, P52 = TOP - (1 << 48), TOP - (1 << 52)


@pytest.mark.parametrize(
    ("page_offset", "page_size", "earlier", "later"),
    [
        # What virt_to_page and page_to_virt of kernels with these configurations add.
        (P48, 1 << 12, 0x400_0000_0000, 0x200_4000_0000),
        (P52, 1 << 12, 0x4000_0000_0000, 0x3E00_4000_0000),
        (P52, 1 << 14, 0x1000_0000_0000, 0xFC0_4000_0000),
    ],
)
def test_first_struct_page_is_where_kernels_have_it(page_offset, page_size, earlier, later):
    assert first_struct_pages(page_offset, page_size) == (TOP - earlier, TOP - later)


@pytest.mark.parametrize("layout", [0, 1])
def test_struct_pages_and_pages_correspond(layout):
    memory = AddressMap(const(0), const(0), P48, TOP - (1 << 47))
    first = first_struct_pages(P48, 4096)[layout]
    for number in (0, 1, 0x12345):
        page = const((first + 64 * number) % TOP)
        assert memory.is_page(const(P48 + 4096 * number), page, 4096).is_true()
        assert not memory.is_page(const(P48 + 4096 * number + 4096), page, 4096).is_true()


def test_first_struct_page_of_early_kernels():
    """VMEMMAP_START is -VMEMMAP_SIZE - SZ_2M up to 5.10: 0xfffffdffffe00000 with 48 bits and 4 KiB."""
    of_5_11, of_5_10 = first_struct_pages(P48, 4096, early=True)
    assert (of_5_11, of_5_10) == (first_struct_pages(P48, 4096)[0], 0xFFFF_FDFF_FFE0_0000)
    memory = AddressMap(const(0), const(0x4000_0000), P48, TOP - (1 << 47))
    page = const(of_5_10 + 64 * 3)
    assert constant(memory.page_to_phys(page, 4096, of_5_10)) == 0x4000_3000
    assert constant(memory.phys_to_linear(memory.page_to_phys(page, 4096, of_5_10))) == P48 + 4096 * 3


def test_bits_of_virtual_addresses():
    assert AddressMap(const(0), const(0), P48, TOP - (1 << 47)).address_bits == (48, 48)
    assert AddressMap(const(0), const(0), P52, TOP - (1 << 47)).address_bits == (52, 48)


@pytest.mark.parametrize(
    ("t1sz", "held"), [(0, False), (11, False), (12, True), (16, True), (25, True), (28, True), (29, False)]
)
def test_bits_of_the_kernels_addresses(t1sz, held):
    tcr = const(t1sz << 16 | 0x3F << 10 | 0x3F)  # the bits beside the field make no difference
    assert kernel_addresses(tcr).is_true() == held
