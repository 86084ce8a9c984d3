/* SPDX-License-Identifier: BSD-2-Clause */
/* x0 whether to go through EL2, x1 entry, x2..x4 its arguments. Runs at physical addresses from the idmap. */
#include "fault.h"
#include "kexec.h"

	.section .idmap.text, "ax", %progbits
	.balign	8
	.globl	cpu_soft_restart
	.type	cpu_soft_restart, %function
cpu_soft_restart:
	bti	c
	mov	x9, #SCTLR_MMU_OFF_LOW
	movk	x9, #SCTLR_MMU_OFF_HIGH, lsl #16
	isb
	msr	sctlr_el1, x9
	isb

	cbz	x0, .Lsame_level
#if FAULT == 26
	mov	x0, #(HVC_SOFT_RESTART + 1)
#else
	mov	x0, #HVC_SOFT_RESTART
#endif
	hvc	#0
.Lsame_level:
	mov	x11, x1
	mov	x0, x2
	mov	x1, x3
	mov	x2, x4
	br	x11
	.size	cpu_soft_restart, . - cpu_soft_restart
