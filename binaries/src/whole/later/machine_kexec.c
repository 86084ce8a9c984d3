/* SPDX-License-Identifier: BSD-2-Clause */
/* The routine runs with the MMU on, from page tables that the new kernel is not copied over. */
#include "cacheflush.h"
#include "leave.h"
#include "support.h"
#include "trans_pgd.h"

#define IDMAP_T0SZ (64 - VA_BITS)

extern const unsigned char __relocate_new_kernel_start[], __relocate_new_kernel_end[];

restart_function cpu_soft_restart;
bool is_hyp_nvhe(void);

__attribute__((noinline)) bool is_hyp_nvhe(void)
{
	return hyp_stub_below();
}

static void *kexec_page_alloc(void *arg)
{
	struct page *const page = kimage_alloc_control_pages(arg, 0);
	void *address;

	if (!page)
		return NULL;
	address = page_to_virt(page);
	clear_page(address);
	return address;
}

/* The new kernel starts with the MMU off and sees nothing that is only cached. */
static inline_always void flush_segments(const struct kimage *image)
{
	for (u64 n = 0; n < segments_to_flush(image); n++) {
		const u64 start = (u64)phys_to_virt(image->segment[n].mem);

		dcache_clean_inval_poc(start, FAULTY(33, 0, start) + image->segment[n].memsz);
	}
}

int machine_kexec_post_load(struct kimage *image)
{
	void *const page = page_to_virt(image->control_code_page);
	const u64 size = __relocate_new_kernel_end - __relocate_new_kernel_start;
	struct trans_pgd_info info = { kexec_page_alloc, image };
	page_table *linear_map = NULL;
	int error;

	if (FAULTY(30, !loaded_in_place(image), loaded_in_place(image))) {
		if (FAULT != 31)
			flush_segments(image);
		return 0;
	}

	image->arch.el2_vectors = 0;
	if (is_hyp_nvhe()) {
		error = trans_pgd_copy_el2_vectors(&info, &image->arch.el2_vectors);
		if (error)
			return error;
	}
	error = trans_pgd_create_copy(&info, &linear_map, PAGE_OFFSET, PAGE_END);
	if (error)
		return error;
	image->arch.ttbr1 = virt_to_phys(linear_map);
	image->arch.zero_page = symbol_to_phys(empty_zero_page);

	memcpy(page, __relocate_new_kernel_start, size - FAULTY(34, 8, 0));
	image->arch.kern_reloc = FAULTY(35, (u64)page, virt_to_phys(page));
	error = trans_pgd_idmap_page(&info, &image->arch.ttbr0, &image->arch.t0sz, page);
	if (error)
		return error;
	image->arch.phys_offset = virt_to_phys(image) - (u64)image;

	dcache_clean_inval_poc((u64)page, (u64)page + size);
	icache_inval_pou((u64)page, (u64)page + size);
	return 0;
}

static __attribute__((noinline)) void cpu_set_reserved_ttbr0_nosync(void)
{
	write_system(ttbr0_el1, symbol_to_phys(&reserved_pg_dir));
}

/* No entry of a table that is about to go may stay in the TLB beside one of the next table. */
static inline_always void leave_user_table(u64 next_t0sz)
{
	cpu_set_reserved_ttbr0_nosync();
	barrier_system("isb");
	flush_local_tlb();
	fit_t0sz(next_t0sz);
}

static inline_always void install_idmap(void)
{
	leave_user_table(IDMAP_T0SZ);
	switch_to_idmap();
}

static inline_always void install_ttbr0(u64 ttbr0, u64 t0sz)
{
	leave_user_table(t0sz);
	write_system(ttbr0_el1, ttbr0);
	barrier_system("isb");
}

void machine_kexec(struct kimage *image)
{
	check_other_cpus(image);
	_printk("kexec: leaving\n");
	mask_exceptions();

	if (loaded_in_place(image)) {
		const u64 *const start = &image->start, *const dtb = &image->arch.dtb_mem;
		restart_function *restart;

		if (FAULT != 36)
			install_idmap();
		restart = FAULTY(37, cpu_soft_restart, (restart_function *)symbol_to_phys((void *)cpu_soft_restart));
		restart(FAULTY(38, 0, is_hyp_nvhe()), FAULTY(39, *dtb, *start), FAULTY(39, *start, *dtb), 0, 0);
	} else {
		void (*routine)(struct kimage *image);

		if (is_hyp_nvhe())
			__hyp_set_vectors(image->arch.el2_vectors);
		install_ttbr0(image->arch.ttbr0, image->arch.t0sz);
		routine = (void (*)(struct kimage *))image->arch.kern_reloc;
		routine(image);
	}
	BUG();
}
