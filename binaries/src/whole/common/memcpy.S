/* SPDX-License-Identifier: BSD-2-Clause */
/* x0 to, x1 from, x2 size; returns x0. Sixteen bytes at a time, then what is left byte by byte. */

	.section .text, "ax", %progbits
	.balign	4
	.globl	memcpy
	.type	memcpy, %function
memcpy:
	bti	c
	mov	x6, x0
	subs	x2, x2, #16
	b.lo	.Lrest
.Lblock:
	ldp	x3, x4, [x1], #16
	stp	x3, x4, [x6], #16
	subs	x2, x2, #16
	b.hs	.Lblock
.Lrest:
	adds	x2, x2, #16
	b.eq	.Lcopied
.Lbyte:
	ldrb	w3, [x1], #1
	strb	w3, [x6], #1
	subs	x2, x2, #1
	b.ne	.Lbyte
.Lcopied:
	ret
	.size	memcpy, . - memcpy
