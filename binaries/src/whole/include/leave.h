/* SPDX-License-Identifier: BSD-2-Clause */
/* What every state of machine_kexec does before it restarts. */
#ifndef KEXEC_VERIFY_LEAVE_H
#define KEXEC_VERIFY_LEAVE_H

#include "bug.h"
#include "kimage.h"

extern int __num_online_cpus, cpus_stuck_in_kernel, waiting_for_crash_ipi;
extern unsigned int __boot_cpu_mode[2];

bool cpus_are_stuck_in_kernel(void);
bool smp_crash_stop_failed(void);
void __hyp_set_vectors(u64 phys);

/* A CPU that still runs this kernel may not be left behind, unless the kernel has crashed anyway. */
static inline_always void check_other_cpus(const struct kimage *image)
{
	const bool crash = image == kexec_crash_image;
	const bool stuck = cpus_are_stuck_in_kernel();

	BUG_ON(!crash && (stuck || *(volatile int *)&__num_online_cpus > 1));
	WARN(crash && (stuck || smp_crash_stop_failed()), "kexec: other CPUs may still run\n");
}

static inline_always void mask_exceptions(void)
{
	if (FAULT != 102)
		barrier_system("msr daifset, #0xf");
}

/* The hyp stub can be called when the CPUs came up at EL2 and the kernel does not run there itself. */
static inline_always bool hyp_stub_below(void)
{
	return *(volatile unsigned int *)&__boot_cpu_mode[0] == BOOT_CPU_MODE_EL2 &&
	       *(volatile unsigned int *)&__boot_cpu_mode[1] == BOOT_CPU_MODE_EL2 &&
	       read_system(CurrentEL) != CURRENT_EL2;
}

static inline_always void flush_local_tlb(void)
{
	barrier_system("dsb nshst");
	if (FAULT != 29)
		barrier_system("tlbi vmalle1");
	barrier_system("dsb nsh");
	barrier_system("isb");
}

/* A table for fewer or more address bits than TCR says would be walked from the wrong level. */
static inline_always void fit_t0sz(u64 t0sz)
{
	const u64 tcr = read_system(tcr_el1);

	if (FAULT == 101 || (tcr & TCR_T0SZ_BITS) == t0sz)
		return;
	write_system(tcr_el1, (tcr & ~TCR_T0SZ_BITS) | t0sz);
	barrier_system("isb");
}

/* cpu_do_switch_mm wants the table through the linear map: the image's own addresses are the swapper's. */
static inline_always void switch_to_idmap(void)
{
	void *const pgd = phys_to_virt(symbol_to_phys(&idmap_pg_dir));

	BUG_ON(pgd == &swapper_pg_dir);
	cpu_do_switch_mm(virt_to_phys(pgd), &init_mm);
}

typedef void restart_function(u64 el2_switch, u64 entry, u64 arg0, u64 arg1, u64 arg2);

#endif
