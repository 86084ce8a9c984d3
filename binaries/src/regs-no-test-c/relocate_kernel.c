/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The form regs-no-test as a compiler writes it: its registers, loops and block order are the compiler's choice, and
 * the loops count in the ways that C suggests. It must come out without a stack, since none is left by then: tests/binaries/test_corpus.py looks.
 */
#include "kexec.h"

typedef unsigned long u64;

#define WORDS_PER_BLOCK 8

static inline __attribute__((always_inline)) u64 dcache_line_size(void)
{
	u64 ctr;

	__asm__ volatile("mrs %0, ctr_el0" : "=r"(ctr));
	return 4UL << ((ctr >> CTR_DMINLINE_SHIFT) & ((1UL << CTR_DMINLINE_WIDTH) - 1));
}

static inline __attribute__((always_inline)) void invalidate_page(u64 page, u64 line)
{
	for (u64 at = page & -line; at < page + PAGE_SIZE; at += line)
		__asm__ volatile("dc ivac, %0" : : "r"(at) : "memory");
	__asm__ volatile("dsb sy" : : : "memory");
}

static inline __attribute__((always_inline)) u64 *copy_page(u64 *to, const u64 *from)
{
	const u64 *const end = from + PAGE_SIZE / sizeof(u64);

	/* A block is read whole before it is written, so that a page may be copied onto itself. */
	do {
		u64 a = from[0], b = from[1], c = from[2], d = from[3];
		u64 e = from[4], f = from[5], g = from[6], h = from[7];

		to[0] = a;
		to[1] = b;
		to[2] = c;
		to[3] = d;
		to[4] = e;
		to[5] = f;
		to[6] = g;
		to[7] = h;
		from += WORDS_PER_BLOCK;
		to += WORDS_PER_BLOCK;
	} while (from != end);
	return to;
}

__attribute__((noreturn)) void arm64_relocate_new_kernel(u64 head, u64 start, u64 dtb)
{
	const u64 line = dcache_line_size();
	const u64 *ptr = 0;
	u64 dest = 0;
	u64 entry = head;

	do {
		const u64 addr = entry & ~(u64)OFFSET_BITS;

		if (entry & (1UL << SOURCE_BIT)) {
			invalidate_page(dest, line);
			dest = (u64)copy_page((u64 *)dest, (const u64 *)addr);
		} else if (entry & (1UL << INDIRECTION_BIT)) {
			ptr = (const u64 *)addr;
		} else if (entry & (1UL << DESTINATION_BIT)) {
			dest = addr;
		}
		entry = *ptr++;
	} while (!(entry & (1UL << DONE_BIT)));

	__asm__ volatile("dsb nsh\n\tic iallu\n\tdsb nsh\n\tisb" : : : "memory");

	register u64 x0 __asm__("x0") = dtb;
	register u64 x1 __asm__("x1") = 0;
	register u64 x2 __asm__("x2") = 0;
	register u64 x3 __asm__("x3") = 0;

	__asm__ volatile("br %4" : : "r"(x0), "r"(x1), "r"(x2), "r"(x3), "r"(start) : "memory");
	__builtin_unreachable();
}
