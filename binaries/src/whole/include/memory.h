/* SPDX-License-Identifier: BSD-2-Clause */
/* The kernel's address space with 48-bit virtual addresses: linear map, image, struct page array. */
#ifndef KEXEC_VERIFY_MEMORY_H
#define KEXEC_VERIFY_MEMORY_H

#include "fault.h"
#include "kexec.h"
#include "layout.h"

typedef unsigned long u64;
typedef long s64;
typedef _Bool bool;

#define NULL ((void *)0)
#define inline_always inline __attribute__((always_inline))

#define VA_BITS 48
#define PAGE_OFFSET (-(1UL << VA_BITS))
#define PAGE_END (-(1UL << (VA_BITS - 1)))
#define PAGE_ADDRESS_BITS (~(u64)OFFSET_BITS)

struct page {
	u64 words[8];
};
#define STRUCT_PAGE_SHIFT 6
#define VMEMMAP_START (-(1UL << (VA_BITS - (PAGE_SHIFT - STRUCT_PAGE_SHIFT))))

extern u64 kimage_voffset;
extern s64 memstart_addr;

static inline_always void *page_to_virt(const struct page *page)
{
	const u64 number = ((u64)page - VMEMMAP_START) / sizeof(struct page);

	return (void *)(PAGE_OFFSET + number * PAGE_SIZE);
}

static inline_always u64 symbol_to_phys(const void *symbol)
{
	return (u64)symbol - kimage_voffset;
}

static inline_always u64 virt_to_phys(const void *address)
{
	const u64 offset = (u64)address - PAGE_OFFSET;

	return offset < PAGE_END - PAGE_OFFSET ? offset + memstart_addr : symbol_to_phys(address);
}

static inline_always void *phys_to_virt(u64 address)
{
	return (void *)((address - memstart_addr) | PAGE_OFFSET);
}

#define read_system(name) \
	({ \
		u64 value_; \
		__asm__ volatile("mrs %0, " #name : "=r"(value_)); \
		value_; \
	})
#define write_system(name, value) __asm__ volatile("msr " #name ", %x0" : : "rZ"((u64)(value)) : "memory")
#define barrier_system(text) __asm__ volatile(text : : : "memory")

#define TCR_T0SZ_BITS 0x3fUL
#define CURRENT_EL2 (2 << 2)

typedef struct {
	u64 entries[PAGE_SIZE / sizeof(u64)];
} __attribute__((aligned(PAGE_SIZE))) page_table;

extern page_table swapper_pg_dir, idmap_pg_dir, reserved_pg_dir;
extern unsigned char empty_zero_page[PAGE_SIZE];

struct mm_struct {
	void *pgd;
	u64 unused[7];
	u64 context_id;
};
_Static_assert(__builtin_offsetof(struct mm_struct, context_id) == MM_CONTEXT_ID, "cpu_do_switch_mm reads it");
extern struct mm_struct init_mm;

void cpu_do_switch_mm(u64 pgd_phys, struct mm_struct *mm);
void *memcpy(void *to, const void *from, u64 size);

#endif
