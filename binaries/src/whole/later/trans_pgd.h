/* SPDX-License-Identifier: BSD-2-Clause */
/* The page tables and vectors that are still there when the new kernel is copied over the old one. */
#ifndef KEXEC_VERIFY_TRANS_PGD_H
#define KEXEC_VERIFY_TRANS_PGD_H

#include "memory.h"

struct trans_pgd_info {
	void *(*trans_alloc_page)(void *arg);
	void *trans_alloc_arg;
};

int trans_pgd_create_copy(struct trans_pgd_info *info, page_table **copy, u64 start, u64 end);
int trans_pgd_idmap_page(struct trans_pgd_info *info, u64 *ttbr0, u64 *t0sz, void *page);
int trans_pgd_copy_el2_vectors(struct trans_pgd_info *info, u64 *el2_vectors);

#endif
