/* SPDX-License-Identifier: BSD-2-Clause */
/* What the seed's patch leaves as it was. */
#ifndef KEXEC_VERIFY_SEED_H
#define KEXEC_VERIFY_SEED_H

#include "cacheflush.h"
#include "leave.h"

extern const unsigned char arm64_relocate_new_kernel[];
extern const u64 arm64_relocate_new_kernel_size;
extern u64 idmap_t0sz;

restart_function __cpu_soft_restart;
int printk(const char *format, ...);

static inline_always void install_idmap(void)
{
	write_system(ttbr0_el1, symbol_to_phys(&reserved_pg_dir));
	barrier_system("isb");
	flush_local_tlb();
	fit_t0sz(idmap_t0sz);
	switch_to_idmap();
}

static inline_always restart_function *restart_code(void)
{
	return FAULTY(37, __cpu_soft_restart, (restart_function *)symbol_to_phys((void *)__cpu_soft_restart));
}

/* The MMU is off from the first instruction of the routine or of the new kernel: neither sees what is only cached. */
static inline_always void flush_segments(const struct kimage *image)
{
	for (u64 n = 0; n < segments_to_flush(image); n++)
		__flush_dcache_area(phys_to_virt(image->segment[n].mem), image->segment[n].memsz);
}

static inline_always void flush_list(struct kimage *image)
{
	u64 *word = &image->head;

	for (;;) {
		u64 entry, *page;

		__flush_dcache_area(word, sizeof(*word));
		entry = *word++;
		page = phys_to_virt(entry & PAGE_ADDRESS_BITS);
		switch (entry & IND_FLAGS) {
		case IND_DONE:
			return;
		case IND_INDIRECTION:
			word = page;
			break;
		case IND_SOURCE:
			__flush_dcache_area(page, PAGE_SIZE);
			break;
		case IND_DESTINATION:
			break;
		default:
			BUG();
		}
	}
}

static inline_always void copy_routine(struct kimage *image, void *page)
{
	memcpy(page, arm64_relocate_new_kernel, arm64_relocate_new_kernel_size - FAULTY(34, 8, 0));
	image->arch.kern_reloc = FAULTY(35, (u64)page, virt_to_phys(page));
}

static inline_always void make_routine_fetchable(void *page)
{
	__flush_dcache_area(page, arm64_relocate_new_kernel_size);
	flush_icache_range((u64)page, FAULTY(33, 0, (u64)page) + arm64_relocate_new_kernel_size);
}

#endif
