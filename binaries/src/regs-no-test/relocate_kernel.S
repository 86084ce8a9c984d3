/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The routine with its arguments in registers and no test of the head: the seed's state after, where the C side never
 * comes here with an image loaded in place.
 * Entered with x0 = head, x1 = start, x2 = dtb, at physical addresses with the MMU off.
 *
 *   x5 list word    x6 list pointer    x8 destination    x9 page address of the word, then source
 *   x26 start       x27 dtb            x28 line size
 */
#include "kexec.h"

	.section .text, "ax", %progbits
	.balign 8
	.globl arm64_relocate_new_kernel
	.type arm64_relocate_new_kernel, %function
arm64_relocate_new_kernel:
.Lbegin:
	mov	x5, x0
	mov	x26, x1
	mov	x27, x2
	mrs	x28, ctr_el0
	ubfx	x1, x28, #CTR_DMINLINE_SHIFT, #CTR_DMINLINE_WIDTH
	mov	w28, #4
	lsl	x28, x28, x1
	mov	x6, #0
	mov	x8, #0
	b	.Lturn

.Lsource:
	/* With the MMU off the stores bypass the cache: a line left there would hide or overwrite them. */
	sub	x2, x28, #1
	bic	x2, x8, x2
	add	x3, x8, #PAGE_SIZE
.Linvalidate:
	dc	ivac, x2
	add	x2, x2, x28
	cmp	x3, x2
	b.hi	.Linvalidate
	dsb	sy

.Lcopy:
	ldp	x10, x11, [x9]
	ldp	x12, x13, [x9, #16]
	ldp	x14, x15, [x9, #32]
	ldp	x16, x17, [x9, #48]
	stnp	x10, x11, [x8]
	stnp	x12, x13, [x8, #16]
	stnp	x14, x15, [x8, #32]
	stnp	x16, x17, [x8, #48]
	add	x8, x8, #64
	add	x9, x9, #64
	ands	xzr, x9, #OFFSET_BITS
	b.ne	.Lcopy

.Lnext:
	ldr	x5, [x6]
	add	x6, x6, #8
	tst	x5, #(1 << DONE_BIT)
	b.ne	.Lfinish

.Lturn:
	and	x9, x5, #~OFFSET_BITS
	tst	x5, #(1 << SOURCE_BIT)
	b.ne	.Lsource
	tst	x5, #(1 << INDIRECTION_BIT)
	b.ne	.Lindirection
	tst	x5, #(1 << DESTINATION_BIT)
	csel	x8, x9, x8, ne
	b	.Lnext

.Lindirection:
	mov	x6, x9
	b	.Lnext

.Lfinish:
	dsb	nsh
	ic	iallu
	dsb	nsh
	isb
	mov	x1, #0
	mov	x2, #0
	mov	x3, #0
	mov	x0, x27
	br	x26
.Lend:
	.size arm64_relocate_new_kernel, . - arm64_relocate_new_kernel

	/* The C side copies this many bytes into the control page. */
	.section .rodata, "a", %progbits
	.balign 8
	.globl arm64_relocate_new_kernel_size
	.type arm64_relocate_new_kernel_size, %object
arm64_relocate_new_kernel_size:
	.quad	.Lend - .Lbegin
	.size arm64_relocate_new_kernel_size, 8
