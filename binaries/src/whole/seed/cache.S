/* SPDX-License-Identifier: BSD-2-Clause */
#include "kexec.h"

	.section .text, "ax", %progbits
	.balign	4
	/* x0 start, x1 size: clean and invalidate to the point of coherency. */
	.globl	__flush_dcache_area
	.type	__flush_dcache_area, %function
__flush_dcache_area:
	bti	c
	mrs	x2, ctr_el0
	ubfx	x2, x2, #CTR_DMINLINE_SHIFT, #CTR_DMINLINE_WIDTH
	mov	x3, #4
	lsl	x3, x3, x2
	sub	x2, x3, #1
	add	x1, x0, x1
	bic	x0, x0, x2
.Larea:
	dc	civac, x0
	add	x0, x0, x3
	cmp	x0, x1
	b.lo	.Larea
	dsb	sy
	ret
	.size	__flush_dcache_area, . - __flush_dcache_area

	/* x0 start, x1 end: what was written as data can be fetched as code. */
	.globl	caches_clean_inval_pou
	.type	caches_clean_inval_pou, %function
caches_clean_inval_pou:
	bti	c
	mrs	x5, ctr_el0
	ubfx	x2, x5, #CTR_DMINLINE_SHIFT, #CTR_DMINLINE_WIDTH
	mov	x3, #4
	lsl	x2, x3, x2
	sub	x4, x2, #1
	bic	x4, x0, x4
.Ldata:
	dc	cvau, x4
	add	x4, x4, x2
	cmp	x4, x1
	b.lo	.Ldata
	dsb	ish

	and	x2, x5, #15
	lsl	x2, x3, x2
	sub	x4, x2, #1
	bic	x4, x0, x4
.Lcode:
	ic	ivau, x4
	add	x4, x4, x2
	cmp	x4, x1
	b.lo	.Lcode
	dsb	ish
	isb
	ret
	.size	caches_clean_inval_pou, . - caches_clean_inval_pou
