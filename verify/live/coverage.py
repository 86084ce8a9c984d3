"""For each assumption: the live check that holds it against a running kernel, or why none is possible."""

from __future__ import annotations

FORMULA = "the proof's own formula, on the guest's registers and memory"
CHECKED: dict[str, str] = {
    "list-head": "kimage->head, after the load and where machine_kexec is entered",
    "list-defined": f"{FORMULA}, at each word of the list",
    "list-one-flag": f"{FORMULA}, at each word of the list",
    "list-well-formed": "W3 to W7 of specs/kimage.py, for each word and for each pair of words that meet",
    "pages-below-top": f"{FORMULA}, at each word of the list",
    "control-page-apart": "the routine's page, against each page of the list",
    "kimage-zeroed": f"{FORMULA}, where machine_kexec_post_load is entered",
    "physical-48-bits": f"{FORMULA}, for swapper_pg_dir",
    "kimage-aligned": FORMULA,
    "phys-offset-aligned": f"{FORMULA}, where the routine is entered",
    "linear-map-copied": "TTBR1's and TTBR0's tables, walked for each page of the list and for the routine's",
    "mmu-on": f"{FORMULA}, where each function is entered",
    "daif-masked": f"{FORMULA}, where the routine is entered",
    "ctr-legal": f"{FORMULA}, where the routine is entered",
    "hvc-returns": "x18 to x29 and SP before and after __hyp_set_vectors",
    "machine-quiet": f"{FORMULA}, where machine_kexec is entered",
    "stack-aligned": FORMULA,
    "little-endian": f"{FORMULA}, where the restart code is entered",
    "t0sz-in-range": f"{FORMULA}, and kimage->t0sz after the load",
    "image-in-memory": f"{FORMULA}, where machine_kexec is entered",
    "kimage-in-linear-map": f"{FORMULA}, where machine_kexec_post_load is entered",
    "nr-segments": f"{FORMULA}, where machine_kexec_post_load is entered",
    "segments-in-memory": f"{FORMULA}, for each segment",
    "segments-apart": f"{FORMULA}, for each segment and each word of the stack frame and of struct kimage",
    "control-page-linear": "the linear map's entry for kimage->control_code_page",
    "tables-in-memory": FORMULA,
    "memstart-aligned": FORMULA,
    "objects-apart": "where in RAM each object is",
    "alternatives-unapplied": "each instruction that is proved in one way only, in RAM and as it is proved",
    "patched-as-tables-say": "each instruction in RAM that is not as proved, against what the tables say",
    "not-traced": "the instructions at function entries, in RAM and as boot leaves them",
    "callees-by-contract": "registers and the caller's objects before and after each call; the tables built",
    "globals-found": "where each global is, by what boot has done with it",
    "stub-below-answers": "VBAR_EL2 and the vectors there",
    "kvm-at-el2": "VBAR_EL2 and hyp_physvirt_offset; KVM's vector for an HVC, in RAM and as it is proved",
    "segments-kept-clean": "the segments' bytes; whether they are clean cannot be seen",
    "control-page-kept": "the page's bytes, after the load and where machine_kexec is entered",
    "kimage-kept": "the fields that specs/kimage.py names, after the load and where machine_kexec is entered",
}
"""What is looked at, by the identifier of the assumption."""
IMPOSSIBLE: dict[str, str] = {
    "context-synced": "no instruction reads whether a change awaits an ISB, and the emulator needs none",
    "capabilities-mean": "it is about caches and the meaning of instructions; the emulator shows neither",
    "kvm-answers": "of kernels before 5.16: live runs need a routine that takes a kimage",
    "refused-call-keeps": "live runs boot without protected KVM, and nothing else refuses the call",
    "nothing-lost": "the emulator has no caches",
    "kimage-layout": "used only without BTF, and a kernel with kexec-tools in Debian has BTF",
    "mmu-off": "of routines that take registers, before 5.16: live runs need a routine that takes a kimage",
    "inputs-clean-to-poc": "the emulator has no caches",
    "list-in-memory": "of routines that take registers, before 5.16: live runs need one that takes a kimage",
    "vabits-actual": "of routines that take registers, before 5.16: live runs need one that takes a kimage",
    "crash-image-flushed": "the emulator has no caches",
    "list-apart": "of routines that take registers, before 5.16: live runs need one that takes a kimage",
    "list-kept-clean": "the emulator has no caches",
    "linear-map-kept": "it is about all the time since boot; linear-map-copied looks at what came of it",
    "shadow-call-stack": "live runs are made of Debian's kernels, and these have no shadow call stack",
}
"""Why no live check is possible, by the identifier of the assumption."""
_FRAME = "registers and the caller's objects, before and after each call"
CALLEES: dict[str, str] = {
    "cpus_are_stuck_in_kernel": _FRAME,
    "_printk": _FRAME,
    "dump_stack": f"{_FRAME}; a run that goes well makes none",
    "__ubsan_handle_out_of_bounds": f"{_FRAME}; a run that goes well makes none",
    "__sanitizer_cov_trace_pc": f"{_FRAME}; kernels without KCOV, lockdep and KASAN make none",
    "_kexec_image_info": _FRAME,
    "kexec_page_alloc": f"{_FRAME} of post_load's; those of trans_pgd_* are inside of these callees",
    "trans_pgd_create_copy": f"{_FRAME}; its tables, against all of the kernel's linear map",
    "trans_pgd_idmap_page": f"{_FRAME}; its tables",
    "trans_pgd_copy_el2_vectors": f"{_FRAME}; the copied bytes; not the caches, which the emulator lacks",
    "__stack_chk_fail": "impossible: it does not return, and no run that goes well calls it",
}
"""What is looked at of each callee whose contract is assumed, by the first of its names."""
