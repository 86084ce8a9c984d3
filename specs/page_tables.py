"""The copy of the linear map that the relocation routine runs on, entry by entry.

Sources: Arm ARM, D8.3 (VMSAv8-64 descriptors: valid, type, AttrIndx, AP, SH, AF, nG, DBM, contiguous, and of
tables PXNTable and UXNTable); arch/arm64/include/asm/pgtable-hwdef.h and pgtable-prot.h (PTE_DIRTY is a bit
of software's); arch/arm64/mm/trans_pgd.c (_copy_pte, copy_pmd, copy_pud, copy_p4d); arch/arm64/mm/mmu.c.
"""

from __future__ import annotations

from kexec_verify.logic import And, Formula, Implies, Not, Term, const, ule, ult

PTE_VALID = 1 << 0
PTE_TYPE_PAGE = 0b11  # valid, and a page at the last level or a table above it
PTE_RDONLY = 1 << 7  # AP[2]
PTE_AF = 1 << 10
PTE_NG = 1 << 11
PTE_DBM = 1 << 51
PTE_DIRTY = 1 << 55

MAY_DIFFER = PTE_VALID | PTE_NG | PTE_RDONLY | PTE_DBM


def accessed(source: Term) -> Formula:
    """The source entry has its access flag set: it is what a protection of the kernel's became."""
    return (source & PTE_AF) != 0


def dirty_if_read_only(source: Term) -> Formula:
    """The source entry has PTE_DIRTY if it is read-only. pte_mkwrite leaves others read-only (6.17)."""
    return Implies((source & PTE_RDONLY) != 0, (source & PTE_DIRTY) != 0)


def is_table(entry: Term) -> Formula:
    """``entry`` is a table, if it is not one of the last level."""
    return (entry & PTE_TYPE_PAGE) == PTE_TYPE_PAGE


def same_place(source: Term, copy: Term) -> Formula:
    """The copy has the source's output address and attributes: all but what makes it valid and writable."""
    return (source ^ copy) & ~MAY_DIFFER == 0


def present(source: Term, copy: Term) -> Formula:
    """There is an entry to copy, and the copy is valid if that is."""
    return And(source != 0, Implies((source & PTE_VALID) != 0, (copy & PTE_VALID) != 0))


def writable(copy: Term) -> Formula:
    """A store through the entry does not fault, with or without hardware that manages AF and AP[2]."""
    return And((copy & PTE_RDONLY) == 0, (copy & PTE_AF) != 0)


MAPPERS = ("__create_pgd_mapping", "__create_pgd_mapping_locked", "create_kpti_ng_temp_pgd")
"""The functions that make entries of the kernel's map: of the address in x2, with the protection in x4.

The last is another name of the second, which is static. A compiler may inline one in the other.
"""
BOOT_MAPPERS = ("paging_init", "map_mem", "__map_memblock")
"""The functions that map the linear map at boot by calls of those; compilers inline one in another."""
SET_FIXMAP = "__set_fixmap"
"""The function by which tables are accessed before the linear map is there (asm/fixmap.h)."""

ELSEWHERE = {
    "efi_create_mapping": "into the tables of efi_mm (arch/arm64/kernel/efi.c)",
    "arch_add_memory": "memory that is added later, with its caller's protection (linear-map-kept)",
}
"""Callers of those functions that map no memory of boot's linear map, and what they map."""


def stays_writable(protection: Term) -> Formula:
    """An entry with ``protection`` that is made read-only later still has PTE_DIRTY."""
    return And((protection & PTE_DIRTY) != 0, (protection & PTE_AF) != 0)


def outside(address: Term, page_offset: int, page_end: int) -> Formula:
    """``address`` is none of the linear map."""
    return Not(And(ule(const(page_offset), address), ult(address, const(page_end))))
