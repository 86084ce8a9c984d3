/* SPDX-License-Identifier: BSD-2-Clause */
/* x0 physical address of a page table, x1 mm_struct: the table for TTBR0, the ASID for TTBR1. */
#include "kexec.h"
#include "layout.h"

	.section .text, "ax", %progbits
	.balign	4
	.globl	cpu_do_switch_mm
	.type	cpu_do_switch_mm, %function
cpu_do_switch_mm:
	bti	c
	ldr	x1, [x1, #MM_CONTEXT_ID]
	adrp	x2, kimage_voffset
	ldr	x2, [x2, #:lo12:kimage_voffset]
	adrp	x3, reserved_pg_dir
	add	x3, x3, #:lo12:reserved_pg_dir
	sub	x3, x3, x2
	mrs	x4, ttbr1_el1
	bfi	x4, x1, #ASID_SHIFT, #ASID_BITS

	/* The new ASID may never be seen with the old table: TTBR0 passes through one that maps nothing. */
	msr	ttbr0_el1, x3
	isb
	msr	ttbr1_el1, x4
	isb
	msr	ttbr0_el1, x0
	isb
	ret
	.size	cpu_do_switch_mm, . - cpu_do_switch_mm
