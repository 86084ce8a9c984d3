/* SPDX-License-Identifier: BSD-2-Clause */
/* All of them take x0 start, x1 end. */
#include "kexec.h"

/* The line size that CTR_EL0 gives in log2 of words at bit \shift. */
	.macro	line_size size, shift
	mrs	\size, ctr_el0
	ubfx	\size, \size, #\shift, #CTR_DMINLINE_WIDTH
	mov	x7, #4
	lsl	\size, x7, \size
	.endm

/* One instruction for each line from x0, aligned down, to x1; the first is run even for an empty range. */
	.macro	each_line op, kind, size
	neg	x6, \size
	and	x6, x0, x6
1:	\op	\kind, x6
	add	x6, x6, \size
	cmp	x6, x1
	b.lo	1b
	.endm

	.section .text, "ax", %progbits
	.balign	4
	.globl	dcache_clean_inval_poc
	.type	dcache_clean_inval_poc, %function
dcache_clean_inval_poc:
	bti	c
	line_size x2, CTR_DMINLINE_SHIFT
	each_line dc, civac, x2
	dsb	sy
	ret
	.size	dcache_clean_inval_poc, . - dcache_clean_inval_poc

	.globl	icache_inval_pou
	.type	icache_inval_pou, %function
icache_inval_pou:
	bti	c
	line_size x2, 0
	each_line ic, ivau, x2
	dsb	ish
	isb
	ret
	.size	icache_inval_pou, . - icache_inval_pou

	.globl	caches_clean_inval_pou
	.type	caches_clean_inval_pou, %function
caches_clean_inval_pou:
	bti	c
	line_size x2, CTR_DMINLINE_SHIFT
	each_line dc, cvau, x2
	dsb	ish
	line_size x2, 0
	each_line ic, ivau, x2
	dsb	ish
	isb
	ret
	.size	caches_clean_inval_pou, . - caches_clean_inval_pou

	.globl	clear_page
	.type	clear_page, %function
clear_page:
	bti	c
.Lclear:
	stp	xzr, xzr, [x0], #16
	tst	x0, #OFFSET_BITS
	b.ne	.Lclear
	ret
	.size	clear_page, . - clear_page
