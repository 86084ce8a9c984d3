"""Entries of the copied linear map, in plain numbers."""

import pytest
from kexec_verify.logic import const
from kexec_verify.specs import page_tables as spec

MADE, READ_ONLY, DIRTY_READ_ONLY = 0x68_0000_4008_0F03, 0x60_0000_4008_0F83, 0xE0_0000_4008_0F83


@pytest.mark.parametrize(("entry", "holds"), [(MADE, True), (READ_ONLY, False), (DIRTY_READ_ONLY, True)])
def test_only_an_entry_that_is_dirty_may_be_read_only(entry: int, holds: bool) -> None:
    assert spec.dirty_if_read_only(const(entry)).is_true() is holds


def test_a_read_only_copy_is_not_writable() -> None:
    assert spec.writable(const(0xE8_0000_4008_0F03)).is_true()
    assert spec.writable(const(0x68_0000_4008_0F83)).is_false()
    assert spec.writable(const(0x68_0000_4008_0B03)).is_false()  # no AF


@pytest.mark.parametrize("bit", [2, 6, 8, 12, 47, 52, 53, 54, 55])
def test_the_copy_of_another_address_or_attribute_is_no_copy(bit: int) -> None:
    assert spec.same_place(const(READ_ONLY), const(READ_ONLY ^ 1 << bit)).is_false()
    assert spec.same_place(const(READ_ONLY), const(MADE)).is_true()


def test_an_entry_that_loses_valid_is_not_present() -> None:
    assert spec.present(const(MADE), const(MADE & ~1)).is_false()
    assert spec.present(const(MADE & ~1), const(MADE)).is_true()
    assert spec.present(const(0), const(1)).is_false()
