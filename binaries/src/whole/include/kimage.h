/* SPDX-License-Identifier: BSD-2-Clause */
/* struct kimage as kernels 4.13 to 6.12 lay it out; what machine_kexec does not touch is padding. */
#ifndef KEXEC_VERIFY_KIMAGE_H
#define KEXEC_VERIFY_KIMAGE_H

#include "memory.h"

#define KEXEC_SEGMENT_MAX 16
#define KEXEC_CONTROL_PAGE_SIZE 4096

#define IND_DESTINATION (1UL << DESTINATION_BIT)
#define IND_INDIRECTION (1UL << INDIRECTION_BIT)
#define IND_DONE (1UL << DONE_BIT)
#define IND_SOURCE (1UL << SOURCE_BIT)
#define IND_FLAGS (IND_DESTINATION | IND_INDIRECTION | IND_DONE | IND_SOURCE)

struct kexec_segment {
	void *buf;
	u64 bufsz;
	u64 mem;
	u64 memsz;
};

struct kimage_arch {
	void *dtb;
	u64 dtb_mem;
	u64 kern_reloc;
	u64 el2_vectors;
	u64 ttbr0;
	u64 ttbr1;
	u64 zero_page;
	u64 phys_offset;
	u64 t0sz;
};

struct kimage {
	u64 head;
	u64 *entry;
	u64 *last_entry;
	u64 start;
	struct page *control_code_page;
	u64 other_pages[2];
	u64 nr_segments;
	struct kexec_segment segment[KEXEC_SEGMENT_MAX];
	u64 lists_and_flags[8];
	struct kimage_arch arch;
};

#define KIMAGE_FIELD_AT(field, offset) \
	_Static_assert(__builtin_offsetof(struct kimage, field) == (offset), "struct kimage: " #field)
KIMAGE_FIELD_AT(head, 0);
KIMAGE_FIELD_AT(start, 24);
KIMAGE_FIELD_AT(control_code_page, 32);
KIMAGE_FIELD_AT(nr_segments, 56);
KIMAGE_FIELD_AT(segment, 64);
KIMAGE_FIELD_AT(segment[1].mem, 112);
KIMAGE_FIELD_AT(arch.dtb_mem, 648);
KIMAGE_FIELD_AT(arch.kern_reloc, 656);
KIMAGE_FIELD_AT(arch.el2_vectors, 664);
KIMAGE_FIELD_AT(arch.ttbr0, 672);
KIMAGE_FIELD_AT(arch.ttbr1, 680);
KIMAGE_FIELD_AT(arch.zero_page, 688);
KIMAGE_FIELD_AT(arch.phys_offset, 696);
KIMAGE_FIELD_AT(arch.t0sz, 704);

extern struct kimage *kexec_crash_image;

int machine_kexec_post_load(struct kimage *image);
void machine_kexec(struct kimage *image);

static inline_always bool loaded_in_place(const struct kimage *image)
{
	return image->head & IND_DONE;
}

static inline_always u64 segments_to_flush(const struct kimage *image)
{
	return FAULTY(32, image->nr_segments - 1, image->nr_segments);
}

#endif
