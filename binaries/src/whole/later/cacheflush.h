/* SPDX-License-Identifier: BSD-2-Clause */
/* Cache maintenance from 5.14 on: every range is given by its start and end. */
#ifndef KEXEC_VERIFY_LATER_CACHEFLUSH_H
#define KEXEC_VERIFY_LATER_CACHEFLUSH_H

#include "memory.h"

void dcache_clean_inval_poc(u64 start, u64 end);
void icache_inval_pou(u64 start, u64 end);
void caches_clean_inval_pou(u64 start, u64 end);

#endif
