"""Words of struct kimage: those that are fields of the proofs, and those that callees may change."""

from __future__ import annotations

from kexec_verify.kexec.calls import is_left_by_callee, left_by_callee
from kexec_verify.logic import const
from kexec_verify.specs.contracts import CONTRACTS
from kexec_verify.specs.kimage import KEXEC_SEGMENT_MAX, SEGMENT_BYTES, KimageLayout

LAYOUT = KimageLayout(648)


def test_each_word_is_a_field_or_another():
    assert set(LAYOUT.named) | set(LAYOUT.others) == set(range(0, LAYOUT.size, 8))
    assert not LAYOUT.named & set(LAYOUT.others)


def test_every_field_that_the_proofs_read_is_named():
    fields = (LAYOUT.head, LAYOUT.start, LAYOUT.control_code_page, LAYOUT.nr_segments, LAYOUT.dtb_mem)
    arch = (LAYOUT.kern_reloc, LAYOUT.el2_vectors, LAYOUT.ttbr0, LAYOUT.ttbr1, LAYOUT.zero_page)
    assert {*fields, *arch, LAYOUT.phys_offset, LAYOUT.t0sz} <= LAYOUT.named
    last = LAYOUT.segment + KEXEC_SEGMENT_MAX * SEGMENT_BYTES - 8
    assert {LAYOUT.segment, last} <= LAYOUT.named and last + 8 in LAYOUT.others


def test_what_builds_tables_takes_pages_and_nothing_else_does():
    taking = {contract.names[0] for contract in CONTRACTS if contract.takes_pages}
    tables = {"trans_pgd_create_copy", "trans_pgd_idmap_page", "trans_pgd_copy_el2_vectors"}
    assert taking == {"kexec_page_alloc", *tables}


def test_only_the_callee_s_own_word_at_its_own_place_counts_as_left():
    word = left_by_callee(0x240, "trans_pgd_create_copy#1")
    assert is_left_by_callee(word, 0x240)
    assert not is_left_by_callee(word, 0x248)  # moved there by the function itself
    assert not is_left_by_callee(const(0), 0x240)
    assert not is_left_by_callee(word + 1, 0x240)
