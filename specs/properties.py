"""The properties: a statement of each, and the obligations that prove it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Property:
    """A property: one row of a report.

    :param theorem: T1 … T11 of docs/architecture.md.
    :param obligations: globs of obligation names.
    :param rests_on: properties that must be PROVED for this one to be.
    :param assumptions: those that its meaning depends on although no hypothesis states them.
    :param variant: the ABI variant of the routine that it is about; None is all of them.
    :param function: the function that it is about; empty for the whole kexec path.
    :param parts: the properties that it joins: it is proved if all of them and its own obligations are.
    :param discharges: assumptions of some parts that other parts prove.
    :param grounds: assumptions that may be false where this is not proved; what assumes them is blocked.
    """

    id: str
    theorem: str
    statement: str
    obligations: tuple[str, ...]
    rests_on: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    variant: str | None = None
    function: str = "arm64_relocate_new_kernel"
    parts: tuple[str, ...] = ()
    discharges: tuple[str, ...] = ()
    grounds: tuple[str, ...] = ()


RELOCATION = (
    Property(
        "reloc-covered",
        "T1",
        "Symbolic execution reached every instruction of the routine and dropped no path.",
        ("reloc-covered",),
    ),
    Property(
        "reloc-effects",
        "T2",
        "The routine executes no system instruction except those that specs/effects.py allows, at the place "
        "and with the operand that it allows. Each access goes through tables that map it, with the MMU on "
        "and no change awaiting an ISB. SP and every other system register keep their values.",
        ("reloc-effect*", "reloc-mapped"),
        ("reloc-covered",),
        ("linear-map-copied", "physical-48-bits"),
    ),
    Property(
        "reloc-step",
        "T1",
        "Each iteration of the routine's loop over the list performs exactly one step of the list machine "
        "(specs/relocate_kernel.py), for any list entry, any memory contents and any addresses.",
        (
            "reloc-init",
            "reloc-step-*",
            "reloc-copy-*",
            "reloc-flush-*",
            "reloc-inval-*",
            "reloc-scan-*",
            "reloc-access-aligned",
        ),
        ("reloc-covered",),
        ("list-defined", "control-page-apart", "kimage-layout", "machine-quiet"),
    ),
    Property(
        "reloc-memory-safe",
        "T2",
        "Every load and store is aligned. Loads stay in the kimage's fields, the current list entry and the "
        "source page, stores in the destination page. With the MMU on, cache maintenance by address stays in "
        "these two pages.",
        ("reloc-access-*",),
        ("reloc-step", "reloc-effects"),
        ("linear-map-copied",),
    ),
    Property(
        "reloc-dest-pages",
        "T3",
        "At the exit each destination page holds what its source page held at entry, and no other word of "
        "memory has changed.",
        ("reloc-dest-pages-*",),
        ("reloc-step", "reloc-memory-safe"),
        ("inputs-clean-to-poc",),
    ),
    Property(
        "reloc-terminates",
        "T4",
        "Every loop ends on every finite list.",
        ("reloc-terminates-*", "reloc-*-terminates"),
        ("reloc-step",),
    ),
    Property(
        "reloc-entry-state",
        "T5",
        "The routine leaves only to kimage->start, with x0 = dtb, x1 = x2 = x3 = 0, interrupts masked and "
        "SCTLR_EL1 set to the kernel's value with the MMU off, or by an HVC_SOFT_RESTART that asks EL2 for "
        "the same.",
        ("reloc-entry-*",),
        ("reloc-step", "reloc-effects"),
        ("hvc-returns",),
    ),
    Property(
        "reloc-clean-to-poc",
        "T5",
        "Every byte written is clean to the point of coherency, completed by a DSB, before the MMU goes off "
        "and at the exit.",
        ("reloc-clean-to-poc*",),
        ("reloc-step", "reloc-memory-safe"),
        ("ctr-legal",),  # the model of cache lines has none that is shorter than a word
    ),
    Property(
        "reloc-icache-invalid",
        "T5",
        "The instruction cache is invalidated after the last write, and a DSB and an ISB have completed "
        "that at the exit.",
        ("reloc-icache-*",),
        ("reloc-step",),
    ),
    Property(
        "reloc-context-synced",
        "T5",
        "Every write of SCTLR, TTBR or TCR is followed by an ISB before anything relies on it.",
        ("reloc-context-*",),
        ("reloc-step",),
    ),
    Property(
        "reloc-break-before-make",
        "T5",
        "TTBR1 changes tables through the zero page with the TLB invalidated in between, and ends on the "
        "kimage's copy of the linear map.",
        ("reloc-ttbr1-*",),
        ("reloc-step",),
        assumptions=("physical-48-bits",),
        variant="kimage",
    ),
)

_MACHINE_KEXEC = "machine_kexec"
_LOOPS = tuple(f"mk-{kind}-*" for kind in ("scan", "flush", "inval", "copy", "loop"))
_POST_LOAD = "machine_kexec_post_load"
_RESTART = "cpu_soft_restart"
_BUILDING = ("objects-apart", "alternatives-unapplied", "globals-found")
_ENVIRONMENT = ("alternatives-unapplied", "objects-apart", "machine-quiet")

WHOLE_PATH = (
    Property(
        "callee-contracts",
        "T6",
        "Each small callee is proved from its bytes to satisfy its contract. Every call passes it a valid "
        "address range and valid pointers.",
        ("contract-*", "call-pointer", "call-range"),
        assumptions=("alternatives-unapplied", "callees-by-contract", "ctr-legal", "physical-48-bits"),
        function="",
    ),
    Property(
        "machine-kexec-effects",
        "T6",
        "machine_kexec executes no system instruction except those that specs/effects.py allows, with the "
        "operand that it allows, SP is a multiple of 16 at each access through it and at each call, and each "
        "loop ends.",
        ("mk-effect", "mk-sp", "mk-untaken", *_LOOPS),
        ("callee-contracts",),
        _ENVIRONMENT,
        function=_MACHINE_KEXEC,
    ),
    Property(
        "post-load-effects",
        "T7",
        "machine_kexec_post_load executes no system instruction except barriers, SP is a multiple of 16 "
        "at each access through it and at each call, and each loop ends.",
        ("pl-effect", "pl-sp", "pl-untaken", "pl-loop-*"),
        ("callee-contracts",),
        _ENVIRONMENT,
        function=_POST_LOAD,
    ),
    Property(
        "kexec-goes-on",
        "T8",
        "On a quiet machine no BUG, no brk, no panic and no __stack_chk_fail is reached in machine_kexec and "
        "machine_kexec_post_load.",
        ("mk-unreached", "pl-unreached", "call-unreached", "mk-untaken", "pl-untaken"),
        ("callee-contracts",),
        ("globals-found", *_ENVIRONMENT),
        function="",
    ),
    Property(
        "inplace-restart",
        "T6",
        "For a head with IND_DONE machine_kexec calls PA(cpu_soft_restart) with el2_switch, start, dtb_mem, "
        "0 and 0, with interrupts masked and SCTLR_EL1 unchanged, and never kern_reloc. A routine that tests "
        "head itself is entered instead.",
        ("mk-inplace-*", "mk-masked", "mk-sctlr-kept", "mk-untaken"),
        ("machine-kexec-effects", "callee-contracts"),
        _ENVIRONMENT,
        function=_MACHINE_KEXEC,
    ),
    Property(
        "inplace-idmap",
        "T6",
        "At that call TTBR0 names the idmap, TCR_EL1.T0SZ fits it, and no change awaits an ISB. Both were "
        "changed while TTBR0 named reserved_pg_dir and after the TLB was invalidated.",
        ("mk-idmap", "mk-ttbr1-kept", "mk-translation-order", "mk-synced", "mk-untaken"),
        ("machine-kexec-effects", "callee-contracts"),
        ("globals-found", "physical-48-bits", *_ENVIRONMENT),
        function=_MACHINE_KEXEC,
    ),
    Property(
        "inplace-writes-nothing",
        "T6",
        "machine_kexec stores only to its own stack frame, so nothing is copied. It loads only from its "
        "frame, struct kimage and the kernel's globals, and at physical addresses from what TTBR0's table "
        "maps. Before 5.12 it also loads list entries and copies the routine to the control page.",
        ("mk-access", "mk-store", "mk-untaken"),
        ("machine-kexec-effects", "callee-contracts"),
        _ENVIRONMENT,
        function=_MACHINE_KEXEC,
    ),
    Property(
        "inplace-icache-invalid",
        "T6",
        "For an image in place, the instruction cache is invalidated between the load and the entry, so no "
        "stale instruction of the image is fetched.",
        ("mk-icache-invalid", "mk-untaken"),
        ("machine-kexec-effects", "callee-contracts", "reloc-icache-invalid"),
        _ENVIRONMENT,
        function=_MACHINE_KEXEC,
    ),
    Property(
        "restart-enters",
        "T6",
        "cpu_soft_restart turns the MMU and the data cache off and enters its argument, at EL1 or by "
        "HVC_SOFT_RESTART, "
        "without a load or store, at any address. It is located in the text that the idmap maps.",
        ("restart-*",),
        assumptions=("alternatives-unapplied", "machine-quiet"),
        function=_RESTART,
    ),
    Property(
        "stub-soft-restart",
        "T6",
        "The hyp stub answers HVC_SOFT_RESTART by entering x1 with x2, x3 and x4 as arguments, and never "
        "returns. It answers HVC_SET_VECTORS by setting VBAR_EL2 to x1. KVM's host vectors, which a crash "
        "may find at EL2 in its place, answer HVC_SOFT_RESTART by entering x1 at EL2 with these arguments, "
        "the MMU off and interrupts masked. They store 16 bytes on EL2's stack and nothing else.",
        ("stub-soft-restart", "stub-set-vectors", "stub-memory", "stub-effect", "stub-keeps", "kvm-*"),
        assumptions=("stub-below-answers",),
        function="__hyp_stub_vectors",
    ),
    Property(
        "stub-copy-soft-restart",
        "T6",
        "The copy of the stub that machine_kexec installs at EL2 for the routine answers HVC_SOFT_RESTART "
        "by entering x1 with x2, x3 and x4 as arguments. It runs at any address.",
        ("stub-copy-*",),
        assumptions=("stub-below-answers",),
        variant="kimage",
        function="trans_pgd_stub_vectors",
    ),
    Property(
        "postload-segments-clean",
        "T7",
        "For an image in place, when machine_kexec_post_load returns, every word of every segment is clean "
        "to the point of coherency, for any number of segments. It returns 0 and has copied nothing. Before "
        "5.12 machine_kexec flushes the segments, and they are clean when it leaves the kernel.",
        ("pl-segments-clean", "pl-kept", "pl-loop-*", "pl-inplace-*", "pl-returns", "pl-untaken"),
        ("post-load-effects", "callee-contracts"),
        ("segments-kept-clean", *_ENVIRONMENT),
        function=_POST_LOAD,
    ),
    Property(
        "postload-list-clean",
        "T7",
        "When machine_kexec_post_load returns 0, every list entry after head and every word of every source "
        "page is clean to the point of coherency, for a list of any length. Before 5.12 the same holds when "
        "machine_kexec leaves the kernel.",
        ("pl-list-clean", "pl-kept", "pl-loop-*", "pl-returns", "pl-untaken"),
        ("post-load-effects", "callee-contracts"),
        ("list-kept-clean", *_ENVIRONMENT),
        variant="registers",
        function=_POST_LOAD,
    ),
    Property(
        "postload-copies-routine",
        "T7",
        "For an image that is not in place, the control page holds exactly the routine's bytes. They fit it, "
        "are clean and fetchable, and behave identically at that address. kern_reloc is the page's physical "
        "address. Before 5.12 machine_kexec copies the routine for every image, and passes that address on.",
        (
            "pl-copied",
            "pl-fits",
            "pl-position-independent",
            "pl-kern-reloc",
            "pl-code-*",
            "pl-kept",
            "pl-returns",
            "pl-untaken",
            "pl-loop-*",
        ),
        ("post-load-effects", "callee-contracts"),
        ("control-page-kept", *_ENVIRONMENT),
        function=_POST_LOAD,
    ),
    Property(
        "postload-tables",
        "T7",
        "When machine_kexec_post_load returns 0, each callee that can fail has succeeded. ttbr0, t0sz and "
        "el2_vectors hold what the callees stored there. ttbr1, zero_page and phys_offset hold what the "
        "address map says. The whole linear map is copied, to pages that belong to the kimage.",
        ("pl-tables", "pl-errors", "pl-untaken"),
        ("post-load-effects", "callee-contracts"),
        ("globals-found", *_ENVIRONMENT),
        variant="kimage",
        function=_POST_LOAD,
    ),
    Property(
        "postload-memory-safe",
        "T7",
        "machine_kexec_post_load loads and stores only in its frame, struct kimage, the globals and the "
        "pages of the list. For an image in place it leaves struct kimage unchanged.",
        ("pl-access", "pl-store", "pl-kimage-kept", "pl-untaken"),
        ("post-load-effects", "callee-contracts"),
        _ENVIRONMENT,
        function=_POST_LOAD,
    ),
    Property(
        "handover-to-routine",
        "T8",
        "For a head without IND_DONE machine_kexec enters the routine at kern_reloc, in the state that the "
        "routine's own proof assumes.",
        (
            "mk-handover-*",
            "mk-masked",
            "mk-sctlr-kept",
            "mk-synced",
            "mk-translation-order",
            "mk-untaken",
            "path-handover",
        ),
        ("machine-kexec-effects", "callee-contracts", "restart-enters"),
        ("kimage-kept", "physical-48-bits", *_ENVIRONMENT),
        function=_MACHINE_KEXEC,
    ),
    Property(
        "tables-copy-writable",
        "T11",
        "Each entry that trans_pgd_create_copy makes of an entry of the kernel's own tables has its output "
        "address and attributes, is valid if that is, and is writable with AF set. Above the last level it "
        "is a block. All other entries are tables. If an entry is writable only because the kernel's entry "
        "has PTE_DIRTY, boot maps the linear map with PTE_DIRTY. That each entry of the range has its entry "
        "in the copy is tried on small tables, not proved.",
        ("tables-*",),
        assumptions=("linear-map-kept", "objects-apart", "alternatives-unapplied"),
        variant="kimage",
        function="trans_pgd_create_copy",
        grounds=("linear-map-copied",),
    ),
    Property(
        "list-begin",
        "T10",
        "do_kimage_alloc_init returns 0, or a kimage whose list has no word: head is 0, and entry and "
        "last_entry name it.",
        ("list-begin-*",),
        assumptions=("kimage-allocated", *_BUILDING),
        variant="kimage",
        function="do_kimage_alloc_init",
    ),
    Property(
        "list-add-entry",
        "T10",
        "kimage_add_entry appends its word to a list of any length, after the INDIRECTION to a new list page "
        "where the last one is full. Older words and all other memory stay as they were. List pages are "
        "distinct and in no segment, entry names the next free word, which is 0, and last_entry its page's "
        "last word. Without a page it returns -ENOMEM.",
        ("list-add-*",),
        assumptions=("list-pages", "list-words", "list-kept", *_BUILDING),
        variant="kimage",
        function="kimage_add_entry",
    ),
    Property(
        "list-terminate",
        "T10",
        "kimage_terminate sets the free word at the end of a list of any length to exactly IND_DONE, and "
        "changes no other word.",
        ("list-end-*",),
        assumptions=("list-kept", *_BUILDING),
        variant="kimage",
        function="kimage_terminate",
    ),
    Property(
        "list-chained",
        "T10",
        "The list that do_kimage_alloc_init begins, kimage_add_entry extends and kimage_terminate ends is "
        "what the list machine reads from head on. Its head is an INDIRECTION or exactly IND_DONE (W1), "
        "each word has one flag (W2), DONE is the last word and no other (W3), and its list pages are in no "
        "segment (W7). kimage_load_segment, kimage_alloc_page and their callers are not covered: W1 to W7 "
        "stay assumptions of kexec-reaches-entry.",
        ("list-chain-*",),
        ("list-begin", "list-add-entry", "list-terminate"),
        ("memstart-aligned",),
        variant="kimage",
        function="the list",
    ),
    Property(
        "kexec-reaches-entry",
        "T8",
        "From machine_kexec's first instruction, for a head with IND_DONE and for a head that begins a "
        "well-formed list, control reaches kimage->start with x0 = dtb_mem, x1 = x2 = x3 = 0, the MMU off, "
        "interrupts masked, and the image clean to the point of coherency. With IND_DONE nothing is copied. "
        "Otherwise the routine has copied the list. Whether the instruction cache is invalidated in place "
        "is inplace-icache-invalid.",
        ("path-inplace",),
        function="",
        parts=(
            "machine-kexec-effects",
            "post-load-effects",
            "kexec-goes-on",
            "inplace-restart",
            "inplace-idmap",
            "inplace-writes-nothing",
            "restart-enters",
            "stub-soft-restart",
            "stub-copy-soft-restart",
            "postload-segments-clean",
            "postload-list-clean",
            "postload-copies-routine",
            "postload-tables",
            "postload-memory-safe",
            "handover-to-routine",
            "tables-copy-writable",
            "callee-contracts",
            *(claim.id for claim in RELOCATION),
        ),
        # handover-to-routine: the routine is entered for no other head, masked, and in the state that
        # its proof assumes; postload-tables: with that phys_offset; postload-list-clean: with those pages.
        discharges=(
            "list-head",
            "daif-masked",
            "mmu-off",
            "phys-offset-aligned",
            "context-synced",
            "inputs-clean-to-poc",
        ),
    ),
)

PROPERTIES = {claim.id: claim for claim in (*RELOCATION, *WHOLE_PATH)}


def grounding(assumptions: Collection[str]) -> list[str]:
    """Return the properties that show some of ``assumptions``: where one is not proved, they may be false."""
    return [name for name, claim in PROPERTIES.items() if not set(claim.grounds).isdisjoint(assumptions)]
