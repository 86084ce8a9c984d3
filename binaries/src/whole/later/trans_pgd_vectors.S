/* SPDX-License-Identifier: BSD-2-Clause */
/* The hyp stub's vectors once more, to be copied: nothing in them reaches outside the table. */
#include "vectors.h"

	.section .text, "ax", %progbits
	.balign	EL2_VECTORS_SIZE
	.globl	trans_pgd_stub_vectors
	.type	trans_pgd_stub_vectors, %object
trans_pgd_stub_vectors:
	dead_slots 8
	.balign	128
#if FAULT == 103
	b	el1_sync_in_place
#else
	answer_hvc
#endif
	dead_slots 7
	.balign	128
	.size	trans_pgd_stub_vectors, . - trans_pgd_stub_vectors
#if FAULT == 103
el1_sync_in_place:
	answer_hvc
#endif
