"""The globals that the proofs read: whether each is located where boot has put it."""

from __future__ import annotations

from kexec_verify.live.checks import Checks
from kexec_verify.live.entries import machine_kexec_proof, value
from kexec_verify.live.placement import Placement
from kexec_verify.live.stop import Stop
from kexec_verify.logic import const, var
from kexec_verify.specs.address_map import is_table, ttbr1_offset

_ID = "globals-found"
_MODES = {0xE11, 0xE12}
"""__boot_cpu_mode: booted at EL1 or at EL2 (arch/arm64/include/asm/virt.h)."""


def check_globals(place: Placement, stop: Stop, checks: Checks) -> None:
    """Check each global that was found, as far as the machine shows where it is."""
    known, folds = place.context.globals, place.context.globals.folds_ttbr
    text = stop.leaf(place.routine.address)
    expected = place.image_to_phys(place.routine.address)
    checks.add(
        _ID,
        "kimage_voffset, by where the image's text is mapped",
        text is not None and text.pa == expected,
        f"{place.routine.address:#x} is at {expected:#x}",
    )
    tables = stop.tables(high=True)
    wrong = [at for at, leaf in tables.leaves(*place.linear) if leaf.pa != place.linear_to_phys(at)]
    checks.add(
        _ID,
        "memstart_addr, by the linear map",
        not wrong,
        f"{wrong[0]:#x}" if wrong else f"memstart_addr is {place.memstart:#x}",
    )
    if "swapper_pg_dir" in known:
        physical = const(place.image_to_phys(known["swapper_pg_dir"]))
        ttbr = var("ttbr1_el1") & (1 << 48) - 1
        offset = ttbr1_offset(var("tcr_el1")) if place.linked.variant.offsets_ttbr1 else 0
        checks.formula(
            _ID, "swapper_pg_dir, by TTBR1", is_table(ttbr, physical, folds, offset), [stop.state()]
        )
        checks.formula("physical-48-bits", "swapper_pg_dir", is_table(ttbr, physical, None), [stop.state()])
    if "__boot_cpu_mode" in known:
        at = place.image_to_phys(known["__boot_cpu_mode"])
        modes = [int.from_bytes(place.guest.read(at + i, 4), "little") for i in (0, 4)]
        checks.add(
            _ID, "__boot_cpu_mode, by its values", set(modes) <= _MODES, ", ".join(f"{m:#x}" for m in modes)
        )
    for name in ("reserved_pg_dir", "empty_zero_page"):
        if name in known:
            blank = not any(place.guest.read(place.image_to_phys(known[name]), place.linked.page_size))
            checks.add(_ID, f"{name}, by its contents", blank, "zero" if blank else "not zero")
    if "idmap_pg_dir" in known:
        _check_idmap(place, stop, known["idmap_pg_dir"], checks)


def _check_idmap(place: Placement, stop: Stop, address: int, checks: Checks) -> None:
    """idmap_pg_dir maps the restart code to itself, with the T0SZ that machine_kexec sets for it."""
    proof = machine_kexec_proof(place)
    t0sz = value(proof.tables.idmap_t0sz(), stop)
    restart = place.image_to_phys(place.context.restart_address())
    physical = place.image_to_phys(address)
    leaf = stop.tables(high=False, base=physical, t0sz=t0sz).walk(restart) if t0sz < 64 else None
    same = leaf is not None and leaf.pa == restart and leaf.executable
    shown = "not mapped" if leaf is None else f"descriptor {leaf.descriptor:#x}"
    checks.add(_ID, "idmap_pg_dir, by what it maps the restart code to", same, f"{restart:#x}: {shown}")
