/* SPDX-License-Identifier: BSD-2-Clause */
/* x0 whether to go through EL2, x1 entry, x2..x4 its arguments. Runs at physical addresses from the idmap. */
#include "fault.h"
#include "kexec.h"

/* M, A, C, SA, I and IESB of SCTLR_EL1, in the halves that movz and movk take. */
#define SCTLR_CLEARED_HIGH 0x0020
#define SCTLR_CLEARED_LOW 0x100f

	.section .idmap.text, "ax", %progbits
	.balign	8
	.globl	__cpu_soft_restart
	.type	__cpu_soft_restart, %function
__cpu_soft_restart:
	bti	c
	mrs	x9, sctlr_el1
	mov	x10, #SCTLR_CLEARED_LOW
	movk	x10, #SCTLR_CLEARED_HIGH, lsl #16
	bic	x9, x9, x10
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
	.size	__cpu_soft_restart, . - __cpu_soft_restart
