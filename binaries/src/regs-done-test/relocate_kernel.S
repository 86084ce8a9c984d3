/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The routine with its arguments in registers and the head tested for DONE: 4.8 to 5.15, and the seed's state before.
 * Entered with x0 = head, x1 = start, x2 = dtb, at physical addresses with the MMU off.
 *
 *   x7  list word    x10 list pointer    x11 destination    x12 page address of the word, then source
 *   x19 start        x20 dtb             x22 line size      x23 line size - 1
 */
#include "kexec.h"

	.section .text, "ax", %progbits
	.balign 8
	.globl arm64_relocate_new_kernel
	.type arm64_relocate_new_kernel, %function
arm64_relocate_new_kernel:
.Lbegin:
	mov	x20, x2
	mov	x19, x1
	mov	x7, x0
	mov	x10, xzr
	mov	x11, xzr
	mrs	x9, ctr_el0
	ubfx	x9, x9, #CTR_DMINLINE_SHIFT, #CTR_DMINLINE_WIDTH
	mov	x22, #4
	lsl	x22, x22, x9
	sub	x23, x22, #1

	/* An image loaded in place has no list: there is nothing to read at the list pointer. */
	tbnz	w7, #DONE_BIT, .Lfinish

.Lturn:
	and	x12, x7, #~OFFSET_BITS
	tbz	w7, #SOURCE_BIT, .Ltry_indirection

	/* With the MMU off the stores bypass the cache: a line left there would hide or overwrite them. */
	add	x14, x11, #PAGE_SIZE
	bic	x13, x11, x23
.Linvalidate:
	dc	ivac, x13
	add	x13, x13, x22
	cmp	x13, x14
	b.lo	.Linvalidate
	dsb	sy

.Lcopy:
	ldp	x0, x1, [x12]
	ldp	x2, x3, [x12, #16]
	ldp	x4, x5, [x12, #32]
	ldp	x24, x25, [x12, #48]
	add	x12, x12, #64
	stnp	x0, x1, [x11]
	stnp	x2, x3, [x11, #16]
	stnp	x4, x5, [x11, #32]
	stnp	x24, x25, [x11, #48]
	add	x11, x11, #64
	tst	x12, #OFFSET_BITS
	b.ne	.Lcopy
	b	.Lnext

.Ltry_indirection:
	tbz	w7, #INDIRECTION_BIT, .Ltry_destination
	mov	x10, x12
	b	.Lnext

.Ltry_destination:
	tbz	w7, #DESTINATION_BIT, .Lnext
	mov	x11, x12

.Lnext:
	ldr	x7, [x10], #8
	tbz	w7, #DONE_BIT, .Lturn

.Lfinish:
	dsb	nsh
	ic	iallu
	dsb	nsh
	isb
	mov	x0, x20
	mov	x1, xzr
	mov	x2, xzr
	mov	x3, xzr
	br	x19
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
