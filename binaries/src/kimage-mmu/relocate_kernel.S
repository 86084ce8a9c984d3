/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The routine with a kimage pointer and the MMU on: 5.16 and later.
 * Entered with x0 = the kimage's virtual address, running from the TTBR0 idmap. Memory is reached through the linear
 * map's copy in TTBR1, at physical address - phys_offset.
 *
 *   x20 list word      x21 list pointer    x9 destination    x10 address of the word's page, then source
 *   x22 start          x23 dtb             x24 el2_vectors   x25 phys_offset
 *   x26 line size      x27 line size - 1
 */
#include "kexec.h"

/* With 52-bit physical addresses, which here only 64 KiB pages have, TTBR keeps bits [51:48] in its bits [5:2]. */
	.macro	phys_to_ttbr ttbr, phys
#if PAGE_SHIFT == 16
	orr	\ttbr, \phys, \phys, lsr #46
	and	\ttbr, \ttbr, #0xfffffffffffc
#else
	mov	\ttbr, \phys
#endif
	.endm

	.section .kexec_relocate.text, "ax", %progbits
	.balign 8
	.globl __relocate_new_kernel_start
__relocate_new_kernel_start:
	.globl arm64_relocate_new_kernel
	.type arm64_relocate_new_kernel, %function
arm64_relocate_new_kernel:
	/* The kimage may lie where the new kernel goes: every field is read before the first store. */
	ldr	x20, [x0, #KIMAGE_HEAD]
	ldr	x22, [x0, #KIMAGE_START]
	ldr	x23, [x0, #KIMAGE_DTB_MEM]
	ldr	x24, [x0, #KIMAGE_EL2_VECTORS]
	ldr	x25, [x0, #KIMAGE_PHYS_OFFSET]
	ldr	x1, [x0, #KIMAGE_ZERO_PAGE]
	ldr	x2, [x0, #KIMAGE_TTBR1]

	mov	x21, xzr
	mov	x9, xzr
	mrs	x3, ctr_el0
	ubfx	x3, x3, #CTR_DMINLINE_SHIFT, #CTR_DMINLINE_WIDTH
	mov	x26, #4
	lsl	x26, x26, x3
	sub	x27, x26, #1

	/* Break before make: no old translation may live beside a new one of the same address. */
	phys_to_ttbr x1, x1
	phys_to_ttbr x2, x2
	msr	ttbr1_el1, x1
	isb
	tlbi	vmalle1
	dsb	nsh
	msr	ttbr1_el1, x2
	isb

.Lturn:
	and	x10, x20, #~OFFSET_BITS
	sub	x10, x10, x25
	tbz	w20, #SOURCE_BIT, .Ltry_indirection

	mov	x11, x9
.Lcopy:
	ldp	x12, x13, [x10]
	ldp	x14, x15, [x10, #16]
	ldp	x0, x1, [x10, #32]
	ldp	x2, x3, [x10, #48]
	add	x10, x10, #64
	stnp	x12, x13, [x9]
	stnp	x14, x15, [x9, #16]
	stnp	x0, x1, [x9, #32]
	stnp	x2, x3, [x9, #48]
	add	x9, x9, #64
	tst	x10, #OFFSET_BITS
	b.ne	.Lcopy

	/* The new kernel starts with the MMU off and reads memory, not the cache. */
	add	x4, x11, #PAGE_SIZE
	bic	x11, x11, x27
.Lclean:
	dc	civac, x11
	add	x11, x11, x26
	cmp	x11, x4
	b.lo	.Lclean
	dsb	sy
	b	.Lnext

.Ltry_indirection:
	tbz	w20, #INDIRECTION_BIT, .Ltry_destination
	mov	x21, x10
	b	.Lnext

.Ltry_destination:
	tbz	w20, #DESTINATION_BIT, .Lnext
	mov	x9, x10

.Lnext:
	ldr	x20, [x21], #8
	tbz	w20, #DONE_BIT, .Lturn

	dsb	nsh
	ic	iallu
	dsb	nsh
	isb

	mov	x5, #SCTLR_MMU_OFF_LOW
	movk	x5, #SCTLR_MMU_OFF_HIGH, lsl #16
	isb
	msr	sctlr_el1, x5
	isb

	cbz	x24, .Lenter
	mov	x0, #HVC_SOFT_RESTART
	mov	x1, x22
	mov	x2, x23
	mov	x3, xzr
	mov	x4, xzr
	hvc	#0

	/* Also reached when the hypervisor refuses and returns. */
.Lenter:
	mov	x0, x23
	mov	x1, xzr
	mov	x2, xzr
	mov	x3, xzr
	br	x22
	.size arm64_relocate_new_kernel, . - arm64_relocate_new_kernel
	.globl __relocate_new_kernel_end
__relocate_new_kernel_end:
