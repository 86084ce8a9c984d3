/* SPDX-License-Identifier: BSD-2-Clause */
/* Cache maintenance as kernels before 5.14 named it: the data cache by size, the instruction cache by end. */
#ifndef KEXEC_VERIFY_SEED_CACHEFLUSH_H
#define KEXEC_VERIFY_SEED_CACHEFLUSH_H

#include "memory.h"

void __flush_dcache_area(void *start, u64 size);
void flush_icache_range(u64 start, u64 end);
void caches_clean_inval_pou(u64 start, u64 end);

#endif
