/* SPDX-License-Identifier: BSD-2-Clause */
/* What later kernels call, and the seed's two states do not. */
#ifndef KEXEC_VERIFY_LATER_SUPPORT_H
#define KEXEC_VERIFY_LATER_SUPPORT_H

#include "kimage.h"

#define CONTROL_PAGES 16

/* Pages that no segment will be copied over: a small store stands for the kernel's search for them. */
extern struct page *control_pages[CONTROL_PAGES];

struct page *kimage_alloc_control_pages(struct kimage *image, unsigned int order);
void clear_page(void *page);
int _printk(const char *format, ...);

#endif
