/* SPDX-License-Identifier: BSD-2-Clause */
/* Numbers that the C and the assembly of the whole path share. */
#ifndef KEXEC_VERIFY_LAYOUT_H
#define KEXEC_VERIFY_LAYOUT_H

/* mm_struct's ASID lies here in this project's own mm_struct; TTBR1 keeps it in its top 16 bits. */
#define MM_CONTEXT_ID 64
#define ASID_SHIFT 48
#define ASID_BITS 16

/* x0 of an hvc that the hyp stub answers, and its answer to anything else. */
#define HVC_SET_VECTORS 0
#define HVC_RESET_VECTORS 2
#define HVC_STUB_ERROR 0xbadca11

/* What head.S found the CPUs in. */
#define BOOT_CPU_MODE_EL1 0xe11
#define BOOT_CPU_MODE_EL2 0xe12

#define EL2_VECTORS_SIZE 2048

#endif
