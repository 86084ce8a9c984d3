/* SPDX-License-Identifier: BSD-2-Clause */
/* The rest of the kernel, as far as machine_kexec looks at it. */
#include "leave.h"

u64 kimage_voffset;
s64 memstart_addr;
page_table swapper_pg_dir, idmap_pg_dir, reserved_pg_dir;
unsigned char empty_zero_page[PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
struct mm_struct init_mm = { .pgd = &swapper_pg_dir };

struct kimage *kexec_crash_image;
int __num_online_cpus = 1;
unsigned int __boot_cpu_mode[2] = { BOOT_CPU_MODE_EL2, BOOT_CPU_MODE_EL1 };

/* Not static: what nothing here writes would be a constant to the compiler. */
int cpus_stuck_in_kernel, waiting_for_crash_ipi;

bool cpus_are_stuck_in_kernel(void)
{
	return cpus_stuck_in_kernel != 0;
}

bool smp_crash_stop_failed(void)
{
	return waiting_for_crash_ipi > 0;
}

void __warn_printk(const char *format, ...)
{
	(void)format;
}

__attribute__((noreturn)) void __stack_chk_fail(void);
void __stack_chk_fail(void)
{
	BUG();
}
