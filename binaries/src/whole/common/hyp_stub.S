/* SPDX-License-Identifier: BSD-2-Clause */
/* What answers an hvc when no hypervisor took EL2, and the call that gives EL2 other vectors. */
#include "vectors.h"

	.section .text, "ax", %progbits
	.balign	EL2_VECTORS_SIZE
	.globl	__hyp_stub_vectors
	.type	__hyp_stub_vectors, %object
__hyp_stub_vectors:
	dead_slots 8
	.balign	128
	b	el1_sync
	dead_slots 7
	.balign	128
	.size	__hyp_stub_vectors, . - __hyp_stub_vectors

	.type	el1_sync, %function
el1_sync:
	answer_hvc
	.size	el1_sync, . - el1_sync

	.globl	__hyp_set_vectors
	.type	__hyp_set_vectors, %function
__hyp_set_vectors:
	bti	c
	mov	x1, x0
	mov	x0, #HVC_SET_VECTORS
	hvc	#0
	ret
	.size	__hyp_set_vectors, . - __hyp_set_vectors
