/*
 * The relocation routine as a C function on an array of words, for a bounded model checker.
 *
 * It is a model: written by hand after specs/relocate_kernel.py, with no caches, no barriers, no registers, no
 * MMU and an array in place of memory. A proof of it says nothing of any kernel's bytes.
 *
 * PAGE_SIZE   bytes, a multiple of 64
 * PAGES       SOURCE words of the list, which is one DESTINATION, these, and DONE
 * SYMBOLIC    page addresses are arbitrary, subject to W5 to W7; else they are constants
 */
#include <stdint.h>

#ifndef PAGE_SIZE
#define PAGE_SIZE 4096
#endif
#ifndef PAGES
#define PAGES 1
#endif

#define DESTINATION 1
#define INDIRECTION 2
#define DONE 4
#define SOURCE 8
#define WORD 8
#define LINE 64
#define PAGE_WORDS (PAGE_SIZE / WORD)
#define LIST_PAGES ((PAGES + 2 + PAGE_WORDS - 1) / PAGE_WORDS)
#ifndef RAM_PAGES
#define RAM_PAGES (LIST_PAGES + 2 * PAGES)
#endif

uint64_t ram[RAM_PAGES * PAGE_WORDS];

void relocate(uint64_t head)
{
	uint64_t entry = head, ptr = 0, dest = 0;

	do {
		uint64_t from = entry & ~(uint64_t)(PAGE_SIZE - 1);

		if (entry & SOURCE) {
			do {
				for (int i = 0; i < LINE / WORD; i++)
					ram[dest / WORD + i] = ram[from / WORD + i];
				from += LINE;
				dest += LINE;
			} while (from & (PAGE_SIZE - 1));
		} else if (entry & INDIRECTION) {
			ptr = from;
		} else if (entry & DESTINATION) {
			dest = from;
		}
		entry = ram[ptr / WORD];
		ptr += WORD;
	} while (!(entry & DONE));
}

#ifdef __CPROVER
uint64_t nondet_word(void);

int main(void)
{
	uint64_t source[PAGES], dest = LIST_PAGES;

	__CPROVER_havoc_object(ram);
#ifdef SYMBOLIC
	dest = nondet_word();
	__CPROVER_assume(dest >= LIST_PAGES && dest <= RAM_PAGES - PAGES);
#endif
	ram[0] = dest * PAGE_SIZE | DESTINATION;
	for (int i = 0; i < PAGES; i++) {
		source[i] = LIST_PAGES + PAGES + i;
#ifdef SYMBOLIC
		source[i] = nondet_word();
		__CPROVER_assume(source[i] >= LIST_PAGES && source[i] < RAM_PAGES);
		__CPROVER_assume(source[i] == dest + i || source[i] < dest || source[i] >= dest + PAGES);
#endif
		ram[1 + i] = source[i] * PAGE_SIZE | SOURCE;
	}
	ram[1 + PAGES] = DONE;

	uint64_t i = nondet_word(), at = nondet_word();
	__CPROVER_assume(i < PAGES && at < PAGE_WORDS);
	uint64_t before = ram[source[i] * PAGE_WORDS + at];

	relocate(INDIRECTION);
	__CPROVER_assert(ram[(dest + i) * PAGE_WORDS + at] == before,
			 "each destination page holds what its source page held");
}
#endif
