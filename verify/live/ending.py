"""How a run ends: at the new kernel's entry, or dead on the way there."""

from __future__ import annotations

from collections.abc import Iterable

from kexec_verify.live.checks import Checks
from kexec_verify.live.guest import Guest, Snapshot
from kexec_verify.live.lists import KexecList
from kexec_verify.live.loaded import Kimage
from kexec_verify.live.placement import Placement
from kexec_verify.live.prepared import routine_tables, trouble
from kexec_verify.live.stop import Stop
from kexec_verify.logic import const, var
from kexec_verify.report.live_model import DeathRecord
from kexec_verify.specs import boot_protocol

_SYNC = 0x200
"""Offset in a vector table of a synchronous exception from the same level with SP_ELx (Arm ARM, D1.3.1)."""
_SHOWN = 3
_MASK = (1 << 64) - 1


def run_to_entry(guest: Guest, stop: Stop, start: int) -> bool:
    """Run to ``start``; whether control came there, and not to the handler of an exception.

    A routine that faults has no handler mapped: it faults again and again at the vector, where a breakpoint
    stops it at once.
    """
    vector = stop.register("vbar_el1") + _SYNC
    guest.gdb.run_to([start, vector], guest.limit)
    return guest.gdb.general()["pc"] == start


def check_entry(stop: Stop, kimage: Kimage, checks: Checks) -> None:
    """Check the state at kimage->start by the boot protocol's formulas (specs/boot_protocol.py)."""
    where = "where kimage->start is entered"
    x = {f"x{i}": var(f"x{i}@start") for i in range(4)}
    dtb = const(kimage["dtb_mem"])
    states = [stop.state()]
    checks.formula("", f"{where}, x0 is dtb_mem and x1 to x3 are 0", boot_protocol.registers(x, dtb), states)
    sctlr = boot_protocol.mmu_off(var("sctlr_el1@start"))
    checks.formula("", f"{where}, MMU and data cache are off", sctlr, [stop.state()])
    checks.formula(
        "", f"{where}, interrupts are masked", boot_protocol.masked(var("daif@start")), [stop.state()]
    )


def check_memory(
    before: Snapshot, after: Snapshot, found: KexecList | None, page: int, pushed: bytes, checks: Checks
) -> None:
    """Compare all of RAM with what the list machine predicts; of an image in place nothing changes.

    :param pushed: what EL2 may have stored on its stack; empty if it may store nothing.
    """
    copied = [] if found is None else found.copied
    if found is not None:
        wrong = [dest for dest, source in copied if after.read(dest, page) != before.read(source, page)]
        value = f"{len(wrong)} of {len(copied)} differ: {_pages(wrong)}" if wrong else f"{len(copied)} pages"
        checks.add("", "each destination page holds what its source page held", not wrong, value)
    destinations = {dest for dest, _ in copied}
    changed = before.changed(after, page)
    outside = [at for at in sorted(changed - destinations) if not _is_push(before, after, at, page, pushed)]
    value = f"{len(outside)} pages: {_pages(outside)}" if outside else f"{len(changed)} pages changed"
    checks.add("", "nothing else in RAM has changed", not outside, value)


def _is_push(before: Snapshot, after: Snapshot, at: int, page: int, pushed: bytes) -> bool:
    """Return whether all that has changed in the page is that ``pushed`` was stored there."""
    old, new = before.read(at, page), after.read(at, page)
    steps = range(0, page, len(pushed)) if pushed else ()
    changed = [i for i in steps if old[i : i + len(pushed)] != new[i : i + len(pushed)]]
    return len(changed) == 1 and new[changed[0] : changed[0] + len(pushed)] == pushed


def _pages(addresses: Iterable[int]) -> str:
    return ", ".join(f"{address:#x}" for address in list(addresses)[:_SHOWN])


def death(place: Placement, stop: Stop, kimage: Kimage, found: KexecList | None) -> DeathRecord:
    """Return where a guest that did not reach its entry is, and why."""
    now = Stop(place.guest)
    names = ("pc", "esr_el1", "far_el1", "elr_el1")
    registers = {name: now.register(name) for name in names if now.has(name)}
    variant = place.linked.variant
    roles = {"entry": variant.entry, "ptr": variant.ptr, "dest": variant.dest}
    registers |= {f"{role} ({name})": now.general[name] for role, name in roles.items() if name}
    word = entry = ""
    if found is not None and variant.ptr:
        physical = (now.general[variant.ptr] + kimage["phys_offset"] - 8) & _MASK
        index = next((i for i, w in enumerate(found.words) if w.at == physical), None)
        if index is not None:
            copied = sum(word.copies for word in found.words[:index])
            executed = found.words[index]
            word = (
                f"word {index} of {len(found.words)}, {executed.entry:#x} at {executed.at:#x}: "
                f"{copied} of {len(found.copied)} pages were copied before it"
            )
            entry = _entry(place, stop, kimage, executed.dest)
    return DeathRecord(place.where(now.pc), registers, word, entry)


def _entry(place: Placement, stop: Stop, kimage: Kimage, page: int) -> str:
    """Return what the routine's tables map a destination page to."""
    tables = routine_tables(place, stop, kimage)
    leaf = tables.walk((page - kimage["phys_offset"]) & _MASK)
    told = trouble(leaf, page, stop.mair) or "mapped as it must be"
    descriptor = "no descriptor" if leaf is None else f"descriptor {leaf.descriptor:#x}"
    return f"destination {page:#x}: {descriptor}, {told}"
