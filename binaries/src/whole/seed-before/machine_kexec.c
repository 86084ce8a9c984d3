/* SPDX-License-Identifier: BSD-2-Clause */
/* Every image goes through the routine, which finds out for itself that there may be nothing to copy. */
#include "seed.h"

int machine_kexec_post_load(struct kimage *image)
{
	void *const page = page_to_virt(image->control_code_page);

	if (FAULTY(30, !loaded_in_place(image), loaded_in_place(image))) {
		if (FAULT != 31)
			flush_segments(image);
	} else {
		flush_list(image);
	}
	copy_routine(image, page);
	make_routine_fetchable(page);
	return 0;
}

static inline_always void soft_restart(u64 entry, u64 arg0, u64 arg1, u64 arg2)
{
	const u64 el2_switch = FAULTY(38, 0, hyp_stub_below());
	restart_function *const restart = restart_code();

	if (FAULT != 36)
		install_idmap();
	restart(el2_switch, entry, arg0, arg1, arg2);
	__builtin_unreachable();
}

void machine_kexec(struct kimage *image)
{
	const u64 *const start = &image->start, *const dtb = &image->arch.dtb_mem;

	check_other_cpus(image);
	printk("kexec: leaving\n");
	mask_exceptions();
	soft_restart(image->arch.kern_reloc, image->head, FAULTY(39, *dtb, *start), FAULTY(39, *start, *dtb));
	BUG();
}
