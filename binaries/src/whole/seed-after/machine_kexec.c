/* SPDX-License-Identifier: BSD-2-Clause */
/* An image loaded in place is entered without the routine, which is not even copied then. */
#include "seed.h"

bool is_hyp_callable(void);

__attribute__((noinline)) bool is_hyp_callable(void)
{
	return hyp_stub_below();
}

int machine_kexec_post_load(struct kimage *image)
{
	void *const page = page_to_virt(image->control_code_page);

	if (FAULTY(30, !loaded_in_place(image), loaded_in_place(image))) {
		if (FAULT != 31)
			flush_segments(image);
		return 0;
	}
	copy_routine(image, page);
	make_routine_fetchable(page);
	flush_list(image);
	return 0;
}

static inline_always void soft_restart(u64 entry, u64 arg0, u64 arg1, u64 arg2)
{
	const u64 el2_switch = hyp_stub_below();
	restart_function *const restart = (restart_function *)symbol_to_phys((void *)__cpu_soft_restart);

	install_idmap();
	restart(el2_switch, entry, arg0, arg1, arg2);
	__builtin_unreachable();
}

void machine_kexec(struct kimage *image)
{
	check_other_cpus(image);
	printk("kexec: leaving\n");
	mask_exceptions();

	if (loaded_in_place(image)) {
		const u64 *const start = &image->start, *const dtb = &image->arch.dtb_mem;
		restart_function *restart;

		if (FAULT != 36)
			install_idmap();
		restart = restart_code();
		restart(FAULTY(38, 0, is_hyp_callable()), FAULTY(39, *dtb, *start), FAULTY(39, *start, *dtb), 0, 0);
	} else {
		soft_restart(image->arch.kern_reloc, image->head, image->start, image->arch.dtb_mem);
	}
	BUG();
}
