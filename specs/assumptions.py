"""Every assumption that a proof may use, by identifier.

A hypothesis of an obligation that is none of the code's own branch conditions nor a
proved invariant carries the identifier of one of these. Reports list those in use.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Assumption:
    """One statement that is assumed, not proved, and its source.

    :param variant: the ABI variant of the routine that it is about; None is all of them.
    """

    id: str
    sentence: str
    source: str
    variant: str | None = None


_ALL = (
    Assumption(
        "list-head",
        "kimage->head has no IND_DONE when the routine is entered.",
        "arch/arm64/kernel/machine_kexec.c: machine_kexec takes the in-place path for such a head",
    ),
    Assumption(
        "list-defined",
        "A DESTINATION comes before the first SOURCE, and the head is an INDIRECTION.",
        "kernel/kexec_core.c: kimage_set_destination precedes kimage_add_page; W1 and W4",
    ),
    Assumption(
        "list-one-flag",
        "Each list entry has exactly one flag. Used only where the proof for any combination of flags fails.",
        "kernel/kexec_core.c: kimage_add_entry callers; W2",
    ),
    Assumption(
        "list-well-formed",
        "The list satisfies W3 to W7 of docs/glossary.md: it is finite and ends with DONE, copies whole "
        "pages, has distinct destinations, and no destination is another entry's source page or a list page.",
        "kernel/kexec_core.c: kimage_alloc_page, kimage_load_segment, sanity_check_segment_list",
    ),
    Assumption(
        "list-words",
        "kimage_add_entry is given the address of a page with IND_DESTINATION or IND_SOURCE, and no other "
        "bit below the page size.",
        "kernel/kexec_core.c: kimage_set_destination and kimage_add_page, its only callers",
    ),
    Assumption(
        "list-pages",
        "kimage_alloc_page, asked by kimage_add_entry, returns 0 or a page of the linear map that is no list "
        "page and in no segment. It leaves head, entry, last_entry, the list pages and the flag of each word "
        "as they were; it may give a SOURCE another page. A list has at most as many list pages as there are "
        "pages.",
        "kernel/kexec_core.c: kimage_alloc_page and kimage_dst_used",
    ),
    Assumption(
        "list-kept",
        "From do_kimage_alloc_init to kimage_terminate only kimage_add_entry and kimage_alloc_page write to "
        "the list pages and to head, entry and last_entry.",
        "kernel/kexec_core.c: pages of the image's own, under kexec_lock",
    ),
    Assumption(
        "kimage-allocated",
        "The allocator gives do_kimage_alloc_init 0 or memory of its own for a struct kimage, zero where "
        "__GFP_ZERO asks for that, and keeps SP and x19 to x29.",
        "kernel/kexec_core.c: kzalloc; mm/slub.c",
    ),
    Assumption(
        "pages-below-top",
        "No page of the list is mapped in the last MiB of the address space.",
        "arch/arm64/include/asm/memory.h: the linear map ends below the fixmap; a PA has 52 bits",
    ),
    Assumption(
        "control-page-apart",
        "The page that the routine runs from is neither a destination nor a list page.",
        "kernel/kexec_core.c: kimage_alloc_control_pages; W7",
    ),
    Assumption(
        "kimage-zeroed",
        "kimage->arch.el2_vectors is 0 when machine_kexec_post_load is entered.",
        "kernel/kexec_core.c: do_kimage_alloc_init uses kzalloc",
        "kimage",
    ),
    Assumption(
        "physical-48-bits",
        "Page tables are located at multiples of 4 KiB below 2^48. Used where the target does not show "
        "whether the kernel folds longer addresses in a TTBR.",
        "arch/arm64/include/asm/assembler.h: phys_to_ttbr folds them where CONFIG_ARM64_PA_BITS_52 is set",
    ),
    Assumption(
        "context-synced",
        "No change of SCTLR_EL1, TTBR0_EL1, TTBR1_EL1 or TCR_EL1 awaits an ISB when the routine is entered.",
        "arch/arm64/kernel/machine_kexec.c: cpu_install_ttbr0 ends with an ISB",
        "kimage",
    ),
    Assumption(
        "kimage-layout",
        "If there is no BTF: struct kimage has the layout inferred from the offsets that the routine loads.",
        "arch/arm64/include/asm/kexec.h: the fields of struct kimage_arch are contiguous words",
        "kimage",
    ),
    Assumption(
        "kimage-aligned",
        "struct kimage is aligned to 8 bytes and does not wrap around the top of memory.",
        "kernel/kexec_core.c: do_kimage_alloc_init uses kzalloc",
    ),
    Assumption(
        "phys-offset-aligned",
        "phys_offset is a multiple of the page size.",
        "arch/arm64/kernel/machine_kexec.c: virt_to_phys(kimage) - (long)kimage, a shift of whole pages",
        "kimage",
    ),
    Assumption(
        "linear-map-copied",
        "TTBR1 of the kimage maps list, source and destination pages at pa - phys_offset, writable, Normal "
        "write-back; TTBR0 maps the routine's page. That the entries are writable where the kernel's own map "
        "has the page is tables-copy-writable.",
        "arch/arm64/kernel/machine_kexec.c: machine_kexec_post_load; arch/arm64/mm/trans_pgd.c",
        "kimage",
    ),
    Assumption(
        "linear-map-kept",
        "Entries of the kernel's linear map keep AF, and PTE_DIRTY if boot gave it to them, while the kernel "
        "runs; memory that is added later is mapped with both.",
        "arch/arm64/mm/pageattr.c: set_memory_ro and its like change VALID, DBM, AP[2], PXN and UXN; "
        "mm/memory_hotplug.c: PAGE_KERNEL",
        "kimage",
    ),
    Assumption(
        "mmu-on",
        "The kernel's functions, and a routine that takes a kimage, are entered with SCTLR_EL1.M and .C set.",
        "arch/arm64/kernel/machine_kexec.c: the kernel calls the routine with its own SCTLR_EL1",
    ),
    Assumption(
        "mmu-off",
        "The routine is entered with SCTLR_EL1.M, .C and .EE clear at its exception level.",
        "arch/arm64/kernel/cpu-reset.S: __cpu_soft_restart turns the MMU off before it branches",
        "registers",
    ),
    Assumption(
        "inputs-clean-to-poc",
        "With the MMU off at entry, list and source pages are clean to the point of coherency.",
        "arch/arm64/kernel/machine_kexec.c: kexec_list_flush",
        "registers",
    ),
    Assumption(
        "daif-masked",
        "Debug, SError, IRQ and FIQ are masked when the routine is entered.",
        "arch/arm64/kernel/machine_kexec.c: local_daif_mask",
    ),
    Assumption(
        "ctr-legal",
        "CTR_EL0.DminLine is from 2 to 9, a line of 16 bytes to 2 KiB, and for callees IminLine too.",
        "Arm ARM, CCSIDR_EL1.LineSize (at least 16 bytes) and CTR_EL0.CWG (at most 512 words)",
    ),
    Assumption(
        "hvc-returns",
        "An HVC that EL2 refuses returns with x18-x30, SP and memory as they were.",
        "SMC Calling Convention, 2.6; arch/arm64/kernel/hyp-stub.S",
        "kimage",
    ),
    Assumption(
        "machine-quiet",
        "One CPU runs, and no interrupt, SError or device write disturbs it. machine_kexec finds one CPU "
        "online and none stuck, or is given kexec_crash_image.",
        "kernel/kexec_core.c: machine_shutdown and smp_send_stop precede machine_kexec",
    ),
    Assumption(
        "stack-aligned",
        "SP is a multiple of 16 when a C function is entered.",
        "AAPCS64, 6.4.5.1",
    ),
    Assumption(
        "shadow-call-stack",
        "In a kernel with a shadow call stack, x18 points into it with room for what one function pushes, it "
        "overlaps no other object, and a callee whose contract is assumed leaves x18 as it was.",
        "include/linux/scs.h; arch/arm64/Makefile: -ffixed-x18 reserves x18",
    ),
    Assumption(
        "little-endian",
        "SCTLR_EL1.EE is clear: the kernel is little-endian.",
        "Documentation/arch/arm64/booting.rst: the image header's flags, which the verifier reads",
    ),
    Assumption(
        "t0sz-in-range",
        "kimage->t0sz and idmap_t0sz are below 64.",
        "arch/arm64/mm/trans_pgd.c: trans_pgd_idmap_page; arch/arm64/include/asm/mmu_context.h",
    ),
    Assumption(
        "image-in-memory",
        "idmap_pg_dir is located in RAM that the linear map covers.",
        "arch/arm64/mm/init.c: arm64_memblock_init keeps the image in the linear map",
    ),
    Assumption(
        "kimage-in-linear-map",
        "struct kimage is located in the linear map.",
        "kernel/kexec_core.c: do_kimage_alloc_init uses kzalloc",
    ),
    Assumption(
        "nr-segments",
        "kimage->nr_segments is at most KEXEC_SEGMENT_MAX, 16.",
        "kernel/kexec.c: kexec_load_check; kernel/kexec_file.c: kexec_add_buffer",
    ),
    Assumption(
        "segments-in-memory",
        "Each segment is RAM that the linear map covers, from its first byte to its last.",
        "kernel/kexec_core.c: sanity_check_segment_list; arch/arm64/kernel/machine_kexec.c: phys_to_virt",
    ),
    Assumption(
        "segments-apart",
        "For an image in place, no segment overlaps the stack, struct kimage or the control page.",
        "kernel/kexec_core.c: a crash image lies in crashk_res, which the kernel does not use",
    ),
    Assumption(
        "nothing-lost",
        "No line of a segment or of the copied code was invalidated while only a cache held its value.",
        "Arm ARM, B2.8: the kernel invalidates memory that it owns only after cleaning it",
    ),
    Assumption(
        "list-in-memory",
        "Each list entry, and each page that one names, is RAM that the linear map covers.",
        "kernel/kexec_core.c: kimage_add_entry",
        "registers",
    ),
    Assumption(
        "list-apart",
        "No list page and no source page overlaps the stack, struct kimage or the control page.",
        "kernel/kexec_core.c: kimage_alloc_page and kimage_alloc_control_pages; W7",
        "registers",
    ),
    Assumption(
        "list-kept-clean",
        "Between the load and the routine nothing writes to list pages and source pages.",
        "kernel/kexec_core.c: pages of the image's own, under kexec_lock",
        "registers",
    ),
    Assumption(
        "control-page-linear",
        "The control page is located in the linear map, outside of the kernel's image.",
        "kernel/kexec_core.c: kimage_alloc_control_pages",
    ),
    Assumption(
        "tables-in-memory",
        "trans_pgd_create_copy returns a table in the linear map.",
        "arch/arm64/mm/trans_pgd.c: its pages are those of kexec_page_alloc",
        "kimage",
    ),
    Assumption(
        "memstart-aligned",
        "memstart_addr is a multiple of the page size.",
        "arch/arm64/mm/init.c: arm64_memblock_init rounds it to ARM64_MEMSTART_ALIGN",
    ),
    Assumption(
        "objects-apart",
        "Stack frame, struct kimage, the task, the control page and the kernel's image do not overlap.",
        "kernel/kexec_core.c, kernel/fork.c: each is an allocation of its own",
    ),
    Assumption(
        "alternatives-unapplied",
        "Boot patches into the code what it patches on every machine, and nothing else: no alternative of a "
        "capability that only some machines have, no static key that differs from the image, no tracer. The "
        "run lists the places that other machines patch.",
        "arch/arm64/kernel/alternative.c, kernel/jump_label.c, arch/arm64/kernel/ftrace.c",
    ),
    Assumption(
        "patched-as-tables-say",
        "Boot patches the instructions that the kernel's tables name, as they say: an alternative where its "
        "capability is set, a static key's site by the state of the key, the first NOP at a function's entry "
        "for ftrace; and nothing else. A capability without a row in the kernel's tables is not set.",
        "arch/arm64/kernel/alternative.c, kernel/jump_label.c, arch/arm64/kernel/ftrace.c",
    ),
    Assumption(
        "capabilities-mean",
        "A capability or static key that is set means what specs/capabilities.py says of it.",
        "specs/capabilities.py",
    ),
    Assumption(
        "not-traced",
        "No tracer, kprobe or live patch is attached to the functions of the kexec path.",
        "kernel/trace/ftrace.c, kernel/kprobes.c, kernel/livepatch",
    ),
    Assumption(
        "vabits-actual",
        "vabits_actual is VA_BITS or VA_BITS_MIN. TCR_EL1.T0SZ is 64 - vabits_actual when machine_kexec is "
        "entered.",
        "arch/arm64/kernel/head.S: __create_page_tables; arch/arm64/mm/proc.S: __cpu_setup",
        "registers",
    ),
    Assumption(
        "crash-image-flushed",
        "Before 5.12, every word of the crash image's segments is clean to the point of coherency when "
        "machine_kexec is entered.",
        "arch/arm64/kernel/machine_kexec.c: arch_kexec_protect_crashkres flushes them after the load and "
        "unmaps them",
        "registers",
    ),
    Assumption(
        "callees-by-contract",
        "Each callee whose contract is not proved satisfies it. The report lists these callees.",
        "specs/contracts.py",
    ),
    Assumption(
        "globals-found",
        "Each global without a symbol is located where two pieces of code outside the functions under proof "
        "agree. The report lists the address and the code.",
        "verify/kexec/globals.py",
    ),
    Assumption(
        "stub-below-answers",
        "Where is_hyp_nvhe returns true, EL2 runs the hyp stub, or its copy after __hyp_set_vectors. In a "
        "crash of a target that has KVM, it may run KVM's host vectors instead. Protected KVM refuses "
        "HVC_SOFT_RESTART.",
        "arch/arm64/kvm/arm.c: machine_shutdown tears KVM down, and machine_crash_shutdown does not",
    ),
    Assumption(
        "kvm-at-el2",
        "Where EL2 runs KVM's host vectors, they and their handler are the kernel's own code, at EL2's "
        "addresses. SP_EL2 is a multiple of 16 and names memory of KVM's own. hyp_physvirt_offset is the "
        "distance from EL2's addresses to physical ones. EL2's tables map the handler's physical address to "
        "itself, executable.",
        "arch/arm64/kvm/arm.c: init_hyp_mode, cpu_prepare_hyp_mode; kvm/hyp/nvhe/hyp-init.S: __kvm_hyp_init",
    ),
    Assumption(
        "kvm-answers",
        "In a crash, KVM's host vectors answer HVC_SOFT_RESTART as the hyp stub does. Assumed only of "
        "a kernel before 5.16 whose code for EL2 has no symbols.",
        "arch/arm64/kvm/hyp/nvhe/host.S and hyp-init.S",
    ),
    Assumption(
        "refused-call-keeps",
        "Where EL2 refuses HVC_SOFT_RESTART, it returns with x1 to x4 as they were.",
        "arch/arm64/kvm/hyp/nvhe/host.S: __host_exit saves and restores the host's registers",
    ),
    Assumption(
        "segments-kept-clean",
        "Between the load and machine_kexec nothing writes to the segments of an image in place.",
        "kernel/kexec_core.c: crash memory is unmapped or reserved (arch_kexec_protect_crashkres)",
    ),
    Assumption(
        "control-page-kept",
        "Between the load and machine_kexec nothing writes to the control page.",
        "kernel/kexec_core.c: kimage_alloc_control_pages; a page of the image's own",
    ),
    Assumption(
        "kimage-kept",
        "Between the load and machine_kexec struct kimage keeps what machine_kexec_post_load left in it.",
        "kernel/kexec_core.c: kexec_lock",
    ),
)

ASSUMPTIONS = {assumption.id: assumption for assumption in _ALL}
