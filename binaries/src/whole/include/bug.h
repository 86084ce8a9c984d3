/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * BUG and WARN are the same brk; an entry of __bug_table tells them apart: where the brk is, then flags, of which bit 0
 * says that the kernel goes on behind it.
 */
#ifndef KEXEC_VERIFY_BUG_H
#define KEXEC_VERIFY_BUG_H

#define BRK_WITH_ENTRY(flags) \
	__asm__ volatile("1:	brk	#0x800\n" \
			 "	.pushsection __bug_table, \"a\", %%progbits\n" \
			 "	.balign	4\n" \
			 "2:	.long	1b - 2b\n" \
			 "	.short	%c0\n" \
			 "	.balign	4\n" \
			 "	.popsection" \
			 : \
			 : "i"(flags) \
			 : "memory")

#define BUG() \
	do { \
		BRK_WITH_ENTRY(0); \
		__builtin_unreachable(); \
	} while (0)

#define BUG_ON(condition) \
	do { \
		if (__builtin_expect(!!(condition), 0)) \
			BUG(); \
	} while (0)

void __warn_printk(const char *format, ...);

#define WARN(condition, text) \
	do { \
		if (__builtin_expect(!!(condition), 0)) { \
			__warn_printk(text); \
			BRK_WITH_ENTRY(1); \
		} \
	} while (0)

#endif
