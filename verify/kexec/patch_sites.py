"""What some machines patch at boot in the functions under proof."""

from __future__ import annotations

from collections.abc import Container, Iterable

from kexec_verify.kexec.choices import name_of
from kexec_verify.target import Kernel


def unknown(kernel: Kernel, start: int, end: int) -> dict[int, str]:
    """Return the instructions from *start* up to *end* that boot replaces by some that are not known.

    :returns: why, by address: a function of the kernel makes them, on every machine.
    """
    patching = kernel.patching
    if patching is None:
        return {}
    return {
        at: f"an instruction that {site.callback} makes at boot"
        for site in patching.sites(kernel, start, end)
        if patching.always(site.capability)
        for at in range(site.address, site.end, 4)
    }


AS_LINKED = "alternatives-unapplied"
"""The assumption that boot patches nothing but what it patches on every machine."""
AS_PATCHED = ("patched-as-tables-say", "capabilities-mean", "not-traced")
"""What is assumed in its place of instructions that are proved for each way that boot may patch them."""


def as_linked(kernel: Kernel, executed: Iterable[int], both: Container[int]) -> str | None:
    """Return a sentence on the instructions at *executed* that some machines patch; None if none are.

    :param both: patch sites that are proved for each way they may be; they are left out.
    """
    if kernel.patching is None:
        return None
    found: dict[int, str] = {}
    for at in executed:
        for site in kernel.patching.sites(kernel, at, at + 4):
            if site.address not in both:
                found[site.address] = f"{kernel.where(site.address)} ({name_of(kernel, site)})"
    if not found:
        return None
    places = ", ".join(found[at] for at in sorted(found))
    return f"proved as linked, and patched by boot on some machines ({AS_LINKED}): {places}"
