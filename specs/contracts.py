"""What is relied on of the functions that kexec's code calls.

A contract says what a callee may change and what holds afterwards; everything else is as
it was: SP, x19 to x29, the system registers and the caller's objects (its frame, struct
kimage, the control page, the segments and the globals that kexec reads). A callee that takes
pages of the kimage's changes words of struct kimage that no proof reads. A contract is
proved from the callee's own bytes in the same kernel, or it is assumed and then listed.
By AAPCS64, 6.1.1, every callee may change x0 to x18, x30 and the flags.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kexec_verify.arm64.state import (
    TRANSLATION_INVALIDATED,
    TRANSLATION_INVALIDATING,
    TRANSLATION_SYNCED,
    TRANSLATION_WRITTEN,
    UNSYNCED,
)
from kexec_verify.logic import TRUE, And, Formula, If, Or, Term, constant
from kexec_verify.specs.address_map import is_table, same_table
from kexec_verify.specs.effects import FLUSHES_ICACHE, FLUSHES_TLB, Rule, Rules, maintains
from kexec_verify.specs.hyp_stub import HVC_SET_VECTORS

type Registers = dict[str, Term]
"""General and system registers, and ghost components, by name."""


@dataclass(frozen=True)
class Contract:
    """What a callee may do.

    :param names: the kernel's names for it, over its versions.
    :param assumed: it is not proved from the callee's bytes.
    :param returns: it comes back.
    :param changes: system registers and ghost components that may differ afterwards.
    :param ensures: what holds, of the registers before and after.
    :param answers_stub: its result says whether the hyp stub lies below (w0's low byte, 0 or 1).
    :param cleans: the bytes that are clean to the point of coherency afterwards: first, and end.
    :param fetches: the bytes whose instruction-cache lines are invalid afterwards: first, and end.
    :param asks: what x0 and x1 hold at the only HVC that it executes.
    :param copies: destination, source and length in bytes of what it copies.
    :param fills: argument registers that point at a 64-bit word which it sets to any value.
    :param points: argument registers that point at an object which it reads, and the object's name.
    :param texts: argument registers that point at what it reads of the kernel's image.
    :param effects: the effects that it may have (specs/effects.py); not checked if the contract is assumed.
    :param reports: it is called only where the program has broken a rule of C; that it is not called is
        proved where that can be proved.
    :param prints: it does nothing but print: no property depends on whether it was called.
    :param records: compilers or debug options insert its calls, to record or check something.
    :param takes_pages: it takes pages of the kimage's: the words of struct kimage that specs/kimage.py does
        not name may differ afterwards, for its lists of pages are among them.
    :param fails: a result in w0 other than 0 says that it has not done what it was called for.
    """

    names: tuple[str, ...]
    sentence: str
    source: str
    assumed: bool = False
    returns: bool = True
    changes: tuple[str, ...] = ()
    ensures: Callable[[Registers, Registers], Formula] | None = None
    answers_stub: bool = False
    cleans: Callable[[Registers], tuple[Term, Term]] | None = None
    fetches: Callable[[Registers], tuple[Term, Term]] | None = None
    asks: Callable[[Registers], tuple[Term | int, Term | int]] | None = None
    copies: Callable[[Registers], tuple[Term, Term, Term]] | None = None
    fills: tuple[str, ...] = ()
    points: dict[str, str] = field(default_factory=dict)
    texts: tuple[str, ...] = ()
    effects: Rules = ()
    fails: bool = False
    reports: bool = False
    takes_pages: bool = False
    prints: bool = False
    records: bool = False


_MAINTENANCE = ("unsynced", "translation")
_SYNCED = ("unsynced", *UNSYNCED.values())
"""Ghost components that are 0 where no context change awaits an ISB."""


_SANITIZED = [
    (name, kind, size)
    for name in ("asan", "hwasan")
    for kind in ("load", "store")
    for size in ("1", "2", "4", "8", "16", "N")
]
"""The checks of memory accesses that KASAN's compiler pass calls."""

PAGE_TAKERS = ("kexec_page_alloc",)
"""What machine_kexec_post_load gives those that build tables, to take pages with."""


def _folds(x: Registers) -> bool | None:
    """Whether the kernel folds physical addresses for TTBRs (address_map.is_table)."""
    return {0: False, 1: True, 2: None}[constant(x["folds TTBR"]) or 0]


def _synced(after: Registers) -> Formula:
    """No context change awaits an ISB."""
    return And(*(after[name] == 0 for name in _SYNCED))


def _switches(entry: Registers, x: Registers, v: tuple[Term, ...]) -> Formula:
    """TTBR0 is set to the table at x0, or to reserved_pg_dir in between."""
    folds = _folds(x)
    return Or(is_table(v[0], entry["x0"], folds), is_table(v[0], x["PA(reserved_pg_dir)"], folds))


def _flushed(translation: Term) -> Term:
    """What a change of tables has come to after TLBI, DSB and ISB: done if it was in effect before."""
    done = Or(translation == TRANSLATION_SYNCED, translation == TRANSLATION_INVALIDATING)
    seen = If(translation == TRANSLATION_WRITTEN, TRANSLATION_SYNCED, translation)
    return If(done, TRANSLATION_INVALIDATED, seen)


CONTRACTS = (
    Contract(
        ("is_hyp_nvhe", "is_hyp_callable"),
        "Its result, 0 or 1 in the low byte of w0, says whether the hyp stub lies below.",
        "arch/arm64/include/asm/virt.h",
        answers_stub=True,
    ),
    Contract(
        ("__hyp_set_vectors",),
        "Asks EL2 for HVC_SET_VECTORS with its argument, and for nothing else.",
        "arch/arm64/kernel/hyp-stub.S",
        asks=lambda x: (HVC_SET_VECTORS, x["x0"]),
        effects=(Rule("CallHyperVisor", "asks EL2, as its contract says", lambda entry, x, v: TRUE),),
    ),
    Contract(
        ("cpu_do_switch_mm",),
        "TTBR0 names the table at x0, TTBR1 the table that it named, and an ISB has followed.",
        "arch/arm64/mm/context.c",
        changes=("ttbr0_el1", "ttbr1_el1", "translation", *_SYNCED),
        ensures=lambda x, after: And(
            is_table(after["ttbr0_el1"], x["x0"], _folds(x)),
            same_table(after["ttbr1_el1"], x["ttbr1_el1"]),
            _synced(after),
        ),
        points={"x1": "mm_struct"},
        effects=(
            Rule("msr ttbr0_el1", "selects the table at x0, or reserved_pg_dir on the way", _switches),
            Rule(
                "msr ttbr1_el1",
                "changes the ASID and keeps the table",
                lambda entry, x, v: same_table(v[0], x["ttbr1_el1"]),
            ),
            FLUSHES_ICACHE,  # post_ttbr_update_workaround, which clang runs inline
        ),
    ),
    Contract(
        ("post_ttbr_update_workaround",),
        "Changes nothing but what the workaround of an erratum does: it invalidates the instruction caches, "
        "and a change that awaited an ISB gets one.",
        "arch/arm64/mm/context.c",
        effects=(FLUSHES_ICACHE,),
    ),
    Contract(
        ("cpu_set_reserved_ttbr0_nosync",),
        "TTBR0 names reserved_pg_dir; no ISB has followed.",
        "arch/arm64/include/asm/mmu_context.h",
        changes=("ttbr0_el1", "ttbr0_unsynced", *_MAINTENANCE),
        ensures=lambda x, after: And(
            is_table(after["ttbr0_el1"], x["PA(reserved_pg_dir)"], _folds(x)),
            after["translation"] == TRANSLATION_WRITTEN,
        ),
        effects=(
            Rule(
                "msr ttbr0_el1",
                "selects reserved_pg_dir",
                lambda entry, x, v: is_table(v[0], x["PA(reserved_pg_dir)"], _folds(x)),
            ),
        ),
    ),
    Contract(
        ("local_flush_tlb_all",),
        "The TLB holds nothing from before a change of tables that was in effect, and an ISB has followed.",
        "arch/arm64/include/asm/tlbflush.h",
        changes=("translation", *_SYNCED),
        ensures=lambda x, after: And(after["translation"] == _flushed(x["translation"]), _synced(after)),
        effects=(FLUSHES_TLB,),
    ),
    Contract(
        ("dcache_clean_inval_poc",),
        "The bytes from x0 up to x1 are clean to the point of coherency and in no data cache.",
        "arch/arm64/mm/cache.S",
        changes=_MAINTENANCE,
        cleans=lambda x: (x["x0"], x["x1"]),
        effects=maintains("DC_CIVAC"),
    ),
    Contract(
        ("__flush_dcache_area",),
        "The x1 bytes from x0 are clean to the point of coherency and in no data cache.",
        "arch/arm64/mm/cache.S, before 5.14",
        changes=_MAINTENANCE,
        cleans=lambda x: (x["x0"], x["x0"] + x["x1"]),
        effects=maintains("DC_CIVAC"),
    ),
    Contract(
        ("icache_inval_pou", "caches_clean_inval_pou", "flush_icache_range", "__flush_icache_range"),
        "No instruction-cache line holds an older value of the clean bytes from x0 up to x1.",
        "arch/arm64/mm/cache.S",
        changes=_MAINTENANCE,
        fetches=lambda x: (x["x0"], x["x1"]),
        effects=maintains("DC_CVAU", "DC_CVAC", "DC_CIVAC", "IC_IVAU"),
    ),
    Contract(
        ("memcpy", "__memcpy", "__pi_memcpy", "memmove", "__memmove"),
        "The x2 bytes at x0 are those at x1; nothing else is written.",
        "arch/arm64/lib/memcpy.S",
        copies=lambda x: (x["x0"], x["x1"], x["x2"]),
    ),
    Contract(
        ("cpus_are_stuck_in_kernel", "smp_crash_stop_failed"),
        "Looks at the state of the other CPUs and writes none of the caller's objects.",
        "arch/arm64/kernel/smp.c",
        assumed=True,
    ),
    Contract(
        ("_printk", "printk", "__warn_printk", "__dynamic_pr_debug"),
        "Prints what x0 points at in the image, and writes none of the caller's objects.",
        "kernel/printk/printk.c, kernel/panic.c, lib/dynamic_debug.c",
        assumed=True,
        changes=_MAINTENANCE,
        texts=("x0",),
        prints=True,
    ),
    Contract(
        ("dump_stack",),
        "Prints the stack, and writes none of the caller's objects.",
        "lib/dump_stack.c",
        assumed=True,
        changes=_MAINTENANCE,
        prints=True,
    ),
    Contract(
        (
            "__ubsan_handle_out_of_bounds",
            "__ubsan_handle_shift_out_of_bounds",
            "__ubsan_handle_load_invalid_value",
            "__ubsan_handle_divrem_overflow",
            "__ubsan_handle_add_overflow",
            "__ubsan_handle_sub_overflow",
            "__ubsan_handle_mul_overflow",
            "__ubsan_handle_negate_overflow",
            "__ubsan_handle_type_mismatch_v1",
        ),
        "Reports the undefined behaviour that its descriptor at x0 in the image names, marks the descriptor, "
        "and writes none of the caller's objects.",
        "lib/ubsan.c",
        assumed=True,
        changes=_MAINTENANCE,
        texts=("x0",),
        reports=True,
    ),
    Contract(
        (
            "__sanitizer_cov_trace_pc",
            "trace_hardirqs_off",
            "trace_hardirqs_on",
            "lockdep_hardirqs_off",
            "lockdep_hardirqs_on",
            "lock_acquire",
            "lock_release",
            "debug_lockdep_rcu_enabled",
            "lockdep_rcu_suspicious",
            "rcu_is_watching",
            *(f"__{name}_{kind}{size}_noabort" for name, kind, size in _SANITIZED),
        ),
        "Records that it was called, in memory of its own, and writes none of the caller's objects.",
        "kernel/kcov.c, kernel/trace/trace_preemptirq.c, kernel/locking/lockdep.c, kernel/rcu/tree.c, "
        "mm/kasan/generic.c",
        assumed=True,
        records=True,
    ),
    Contract(
        ("_kexec_image_info",),
        "Prints what the kimage is, and writes none of the caller's objects.",
        "arch/arm64/kernel/machine_kexec.c",
        assumed=True,
        changes=_MAINTENANCE,
    ),
    Contract(
        PAGE_TAKERS,
        "Takes a page of its own from the kimage's control pages and clears it, or returns 0.",
        "arch/arm64/kernel/machine_kexec.c; kernel/kexec_core.c: kimage_alloc_normal_control_pages",
        assumed=True,
        takes_pages=True,
        changes=_MAINTENANCE,
    ),
    Contract(
        ("trans_pgd_create_copy",),
        "Builds a copy of the kernel's map from x2 up to x3 in pages that it takes by the function at x0, "
        "and stores its address at x1, or returns an error in w0.",
        "arch/arm64/mm/trans_pgd.c",
        assumed=True,
        fails=True,
        takes_pages=True,
        changes=_MAINTENANCE,
        fills=("x1",),
    ),
    Contract(
        ("trans_pgd_idmap_page",),
        "Builds a table that maps the page at x3 to itself and stores the table's TTBR0 value at x1 "
        "and its T0SZ at x2, or returns an error in w0.",
        "arch/arm64/mm/trans_pgd.c",
        assumed=True,
        fails=True,
        takes_pages=True,
        changes=_MAINTENANCE,
        fills=("x1", "x2"),
    ),
    Contract(
        ("trans_pgd_copy_el2_vectors",),
        "Copies trans_pgd_stub_vectors to a page of its own, clean and fetchable, and stores its physical "
        "address at x1, or returns an error in w0.",
        "arch/arm64/mm/trans_pgd.c",
        assumed=True,
        fails=True,
        takes_pages=True,
        changes=_MAINTENANCE,
        fills=("x1",),
    ),
    Contract(
        ("__stack_chk_fail",),
        "Does not return.",
        "kernel/panic.c",
        assumed=True,
        returns=False,
    ),
)


def names_that_never_return() -> tuple[str, ...]:
    """Return the names of the callees whose contract says that they do not return."""
    return tuple(name for found in CONTRACTS if not found.returns for name in found.names)


def contract(name: str) -> Contract | None:
    """The contract of the function called ``name``; that of a constant-propagated clone is its origin's.

    A clone has other arguments than its origin, so only a contract that speaks of none fits it.
    """
    base, _, clone = name.partition(".")
    for found in CONTRACTS:
        if base in found.names:
            plain = not (found.ensures or found.cleans or found.fetches or found.asks or found.copies)
            speaks = not plain or found.fills or found.points or found.texts or found.answers_stub
            return None if clone and speaks else found
    return None
