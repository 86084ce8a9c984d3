/* SPDX-License-Identifier: BSD-2-Clause */
/* A copy of the linear map whose every entry can be written through, and the identity map of one page. */
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
#define READ_ONLY (1UL << 7)
#define DIRTY_BIT_MODIFIER (1UL << 51)
#define ENTRY_ADDRESS_BITS ((1UL << 48) - PAGE_SIZE)

extern const unsigned char trans_pgd_stub_vectors[EL2_VECTORS_SIZE];

static page_table *new_table(struct trans_pgd_info *info)
{
	return info->trans_alloc_page(info->trans_alloc_arg);
}

static u64 slot_of(u64 address, unsigned int shift)
{
	return address >> shift & (LEVEL_SLOTS - 1);
}

static inline_always u64 writable(u64 entry)
{
	return (entry & ~READ_ONLY) | DIRTY_BIT_MODIFIER;
}

static inline_always int copy_pages(struct trans_pgd_info *info, u64 *to, const u64 *from, u64 at, u64 end)
{
	(void)info;
	for (; at != end; at += PAGE_SIZE) {
		const u64 entry = from[slot_of(at, PAGE_SHIFT)];

		if (entry)
			to[slot_of(at, PAGE_SHIFT)] = writable(entry);
	}
	return 0;
}

#define COPY_TABLE(name, below, level) \
	static inline_always int name(struct trans_pgd_info *info, u64 *to, const u64 *from, u64 at, u64 end) \
	{ \
		const unsigned int shift = PAGE_SHIFT + (level)*LEVEL_BITS; \
		u64 next; \
\
		for (; at != end; at = next) { \
			const u64 slot = slot_of(at, shift), entry = from[slot]; \
			page_table *table; \
\
			next = ((at >> shift) + 1) << shift; \
			if (next - 1 > end - 1) \
				next = end; \
			if (!entry) \
				continue; \
			if ((entry & TABLE_DESCRIPTOR) != TABLE_DESCRIPTOR) { \
				to[slot] = writable(entry); \
				continue; \
			} \
			table = new_table(info); \
			if (!table) \
				return -ENOMEM; \
			to[slot] = virt_to_phys(table) | TABLE_DESCRIPTOR; \
			if (below(info, table->entries, phys_to_virt(entry & ENTRY_ADDRESS_BITS), at, next)) \
				return -ENOMEM; \
		} \
		return 0; \
	}

COPY_TABLE(copy_level_1, copy_pages, 1)
COPY_TABLE(copy_level_2, copy_level_1, 2)
COPY_TABLE(copy_level_3, copy_level_2, 3)
_Static_assert(LEVELS == 4, "copy_level_3 copies the top level");

int trans_pgd_create_copy(struct trans_pgd_info *info, page_table **copy, u64 start, u64 end)
{
	page_table *const table = new_table(info);

	if (!table || copy_level_3(info, table->entries, swapper_pg_dir.entries, start, end))
		return -ENOMEM;
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
