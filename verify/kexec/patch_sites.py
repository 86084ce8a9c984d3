"""What some machines patch at boot in the functions under proof."""

from __future__ import annotations

from collections.abc import Iterable

from kexec_verify.target import Kernel
from kexec_verify.target.patching import Patching, Site


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


def as_linked(kernel: Kernel, executed: Iterable[int]) -> str | None:
    """Return a sentence on the instructions at *executed* that some machines patch; None if none are."""
    patching = kernel.patching
    if patching is None:
        return None
    found: dict[int, str] = {}
    for at in executed:
        for site in patching.sites(kernel, at, at + 4):
            found[site.address] = f"{kernel.where(site.address)} ({_decides(patching, site)})"
    if not found:
        return None
    places = ", ".join(found[at] for at in sorted(found))
    return f"proved as linked, and patched by boot on some machines (alternatives-unapplied): {places}"


def _decides(patching: Patching, site: Site) -> str:
    if site.key is not None:
        return f"static key at {site.key:#x}"
    rows = patching.capabilities.get(site.capability or 0, ())
    texts = {row.description or row.found_by for row in rows}
    return f"capability {site.capability}: {', '.join(sorted(texts))}"
