"""The claims: what each property says, in words, and which obligations carry it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Property:
    """One row of a report.

    :param theorem: T1 … T9 of docs/architecture.md.
    :param obligations: globs of obligation names.
    :param rests_on: properties without which this one is not proved.
    :param assumptions: those that its meaning needs though no hypothesis states them.
    :param form: the form of the routine that it is about; None is all of them.
    """

    id: str
    theorem: str
    statement: str
    obligations: tuple[str, ...]
    rests_on: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    form: str | None = None


RELOCATION = (
    Property(
        "reloc-covered",
        "T1",
        "Every instruction of the routine lies on a path that was run, and no path was lost.",
        ("reloc-covered",),
    ),
    Property(
        "reloc-step",
        "T1",
        "One turn of the routine's loop over the list is one step of the list machine, for any word, "
        "memory and addresses.",
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
        "Every load and store is aligned and lies in the kimage's fields, the current list word, the source "
        "page (loads) or the destination page (stores); with the MMU on, cache maintenance by address goes "
        "to these two pages only.",
        ("reloc-access-*",),
        ("reloc-step",),
        ("linear-map-copied",),
    ),
    Property(
        "reloc-dest-pages",
        "T3",
        "At the exit each destination page holds what its source page held at entry, and every other word is "
        "what it was.",
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
        "Control leaves only to kimage->start with x0 = dtb, x1 = x2 = x3 = 0, MMU and data cache off, "
        "little-endian, interrupts masked; or asks EL2 for the same by HVC_SOFT_RESTART.",
        ("reloc-entry-*",),
        ("reloc-step",),
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
        "The instruction cache is invalidated after the last write, and that is complete at the exit.",
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
        form="kimage",
    ),
)

PROPERTIES = {claim.id: claim for claim in RELOCATION}
