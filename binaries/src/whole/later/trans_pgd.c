/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stand-ins with the kernel's interface, so that the calls lead somewhere: the copy is of the top level only, and the
 * identity map of one page.
 */
#include "cacheflush.h"
#include "trans_pgd.h"

#define ENOMEM 12
#define LEVEL_BITS (PAGE_SHIFT - 3)
#define LEVELS ((VA_BITS - PAGE_SHIFT + LEVEL_BITS - 1) / LEVEL_BITS)
#define LEVEL_SLOTS (1UL << LEVEL_BITS)
#define TOP_SHIFT (PAGE_SHIFT + (LEVELS - 1) * LEVEL_BITS)

/* Valid, table or page; for a page also accessed, inner shareable. */
#define TABLE_DESCRIPTOR 3UL
#define PAGE_DESCRIPTOR (TABLE_DESCRIPTOR | 1UL << 10 | 3UL << 8)

extern const unsigned char trans_pgd_stub_vectors[EL2_VECTORS_SIZE];

static page_table *new_table(struct trans_pgd_info *info)
{
	return info->trans_alloc_page(info->trans_alloc_arg);
}

static u64 slot_of(u64 address, unsigned int shift)
{
	return address >> shift & (LEVEL_SLOTS - 1);
}

int trans_pgd_create_copy(struct trans_pgd_info *info, page_table **copy, u64 start, u64 end)
{
	page_table *const table = new_table(info);

	if (!table)
		return -ENOMEM;
	for (u64 n = slot_of(start, TOP_SHIFT); n <= slot_of(end - 1, TOP_SHIFT); n++)
		table->entries[n] = swapper_pg_dir.entries[n];
	*copy = table;
	return 0;
}

int trans_pgd_idmap_page(struct trans_pgd_info *info, u64 *ttbr0, u64 *t0sz, void *page)
{
	const u64 phys = virt_to_phys(page);
	u64 below = phys | PAGE_DESCRIPTOR;

	for (unsigned int shift = PAGE_SHIFT; shift <= TOP_SHIFT; shift += LEVEL_BITS) {
		page_table *const table = new_table(info);

		if (!table)
			return -ENOMEM;
		table->entries[slot_of(phys, shift)] = below;
		below = virt_to_phys(table) | TABLE_DESCRIPTOR;
	}
	*ttbr0 = below & PAGE_ADDRESS_BITS;
	*t0sz = 64 - VA_BITS;
	return 0;
}

int trans_pgd_copy_el2_vectors(struct trans_pgd_info *info, u64 *el2_vectors)
{
	void *const page = info->trans_alloc_page(info->trans_alloc_arg);

	if (!page)
		return -ENOMEM;
	memcpy(page, trans_pgd_stub_vectors, EL2_VECTORS_SIZE);
	caches_clean_inval_pou((u64)page, (u64)page + EL2_VECTORS_SIZE);
	dcache_clean_inval_poc((u64)page, (u64)page + EL2_VECTORS_SIZE);
	*el2_vectors = virt_to_phys(page);
	return 0;
}
