/* SPDX-License-Identifier: BSD-2-Clause */
/* What the forms share: the words of the indirection list and the field offsets of struct kimage. */
#ifndef KEXEC_VERIFY_KEXEC_H
#define KEXEC_VERIFY_KEXEC_H

#ifndef PAGE_SHIFT
#error "build with -DPAGE_SHIFT=12, 14 or 16"
#endif

#define PAGE_SIZE (1 << PAGE_SHIFT)
#define OFFSET_BITS (PAGE_SIZE - 1)

/* One flag in the low bits of each list word. */
#define DESTINATION_BIT 0
#define INDIRECTION_BIT 1
#define DONE_BIT 2
#define SOURCE_BIT 3

/* struct kimage as kernels 4.13 to 6.12 lay it out. */
#define KIMAGE_HEAD 0
#define KIMAGE_START 24
#define KIMAGE_DTB_MEM 648
#define KIMAGE_EL2_VECTORS 664
#define KIMAGE_TTBR1 680
#define KIMAGE_ZERO_PAGE 688
#define KIMAGE_PHYS_OFFSET 696

/* CTR_EL0.DminLine is log2 of the smallest data cache line, counted in 4-byte words. */
#define CTR_DMINLINE_SHIFT 16
#define CTR_DMINLINE_WIDTH 4

/* SCTLR_EL1 with M, C and I clear: its RES1 bits alone, in the halves that movz and movk take. */
#define SCTLR_MMU_OFF_HIGH 0x3050
#define SCTLR_MMU_OFF_LOW 0x0800

#define HVC_SOFT_RESTART 1

#endif
