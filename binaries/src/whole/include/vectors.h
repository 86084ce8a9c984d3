/* SPDX-License-Identifier: BSD-2-Clause */
/* The vector table of a hyp stub: only a synchronous exception from EL1 is expected, and it is an hvc. */
#ifndef KEXEC_VERIFY_VECTORS_H
#define KEXEC_VERIFY_VECTORS_H

#include "fault.h"
#include "kexec.h"
#include "layout.h"

	.macro	dead_slots count
	.rept	\count
	.balign	128
	b	.
	.endr
	.endm

	/* x0 says what is wanted. SOFT_RESTART does not come back: x1 is entered at EL2 with x2, x3, x4 in x0, x1, x2. */
	.macro	answer_hvc
	cmp	x0, #HVC_SOFT_RESTART
	b.eq	3f
	cbz	x0, 1f
	cmp	x0, #HVC_RESET_VECTORS
	b.eq	2f
	movz	x0, #(HVC_STUB_ERROR & 0xffff)
	movk	x0, #(HVC_STUB_ERROR >> 16), lsl #16
	eret
1:	msr	vbar_el2, x1
2:	mov	x0, xzr
	eret
#if FAULT == 27
3:	mov	x0, x2
	mov	x1, x3
	mov	x2, x4
	mov	x8, x1
#else
3:	mov	x8, x1
	mov	x0, x2
	mov	x1, x3
	mov	x2, x4
#endif
	br	x8
	.endm

#endif
