"""What machine_kexec_post_load has prepared: the routine's copy, its tables, the vectors for EL2."""

from __future__ import annotations

from kexec_verify.live.calls import Trace
from kexec_verify.live.checks import Checks
from kexec_verify.live.contracts import ASSUMED
from kexec_verify.live.lists import KexecList
from kexec_verify.live.loaded import Kimage
from kexec_verify.live.placement import Placement
from kexec_verify.live.stop import Stop
from kexec_verify.live.tables import NORMAL_WRITE_BACK, Leaf, Tables
from kexec_verify.logic import const
from kexec_verify.specs.address_map import AddressMap

_COPIED = "linear-map-copied"
_VECTORS_BYTES = 0x800  # a vector table (Arm ARM, D1.3.1)
_TTBR_TABLE = 0x0000_FFFF_FFFF_F000
_MASK = (1 << 64) - 1
_SHOWN = 3


def check_prepared(
    place: Placement, stop: Stop, kimage: Kimage, found: KexecList, trace: Trace, checks: Checks
) -> None:
    """Check the routine's surroundings where machine_kexec_post_load has returned."""
    _check_control_page(place, stop, kimage, checks)
    _check_linear_map(place, stop, kimage, found, trace, checks)
    _check_idmap(stop, kimage, found, checks)
    _check_vectors(place, kimage, found, trace, checks)


def routine_tables(place: Placement, stop: Stop, kimage: Kimage) -> Tables:
    """Return the tables that the routine accesses list, sources and destinations through."""
    return stop.tables(high=True, base=kimage["ttbr1"])


def trouble(leaf: Leaf | None, physical: int, mair: int) -> str:
    """Return what is wrong with the mapping of a page that the routine accesses; "" if nothing is."""
    if leaf is None:
        return "not mapped"
    if leaf.pa != physical:
        return f"mapped to {leaf.pa:#x}"
    if not leaf.writable:
        return "read-only"
    if leaf.memory_type(mair) != NORMAL_WRITE_BACK:
        return f"memory of type {leaf.memory_type(mair):#x}"
    return "" if leaf.accessed else "without the access flag"


def _check_control_page(place: Placement, stop: Stop, kimage: Kimage, checks: Checks) -> None:
    linear = place.phys_to_linear(kimage.control)
    leaf = stop.leaf(linear)
    seen = leaf is not None and leaf.pa == kimage.control and place.in_linear_map(linear)
    holds = seen and not place.in_image(kimage.control)
    checks.add(
        "control-page-linear", "kimage->control_code_page", holds, f"{kimage.control:#x} at {linear:#x}"
    )
    routine = place.routine
    start, size = routine.copied_from, routine.copied_size
    if start is None or size is None:
        checks.add("", "the control page holds the routine", None, "the kernel's copy was not found")
        return
    entry = (kimage.control + routine.address - start) & _MASK
    checks.add(
        "",
        "kern_reloc is the routine in the control page",
        kimage["kern_reloc"] == entry,
        f"{kimage['kern_reloc']:#x}, expected {entry:#x}",
    )
    running = place.guest.read(place.image_to_phys(start), size)
    held = place.guest.read(kimage.control, size)
    checks.add("", "the control page holds the routine", held == running, f"{size} bytes from {start:#x}")


def _check_linear_map(
    place: Placement, stop: Stop, kimage: Kimage, found: KexecList, trace: Trace, checks: Checks
) -> None:
    """What the routine's TTBR1 maps: each page of the list, and the whole of the kernel's linear map."""
    tables, mair = routine_tables(place, stop, kimage), stop.mair
    wrong = []
    for page in sorted(found.named):
        leaf = tables.walk((page - kimage["phys_offset"]) & _MASK)
        told = trouble(leaf, page, mair)
        if told:
            kind = "destination" if page in found.destinations else "page of the list or source"
            descriptor = "" if leaf is None else f", descriptor {leaf.descriptor:#x}"
            wrong.append(f"{kind} {page:#x} is {told}{descriptor}")
    value = f"{len(wrong)} of {len(found.named)} pages: {'; '.join(wrong[:_SHOWN])}"
    checks.add(
        _COPIED,
        "TTBR1 of the kimage maps the pages of the list",
        not wrong,
        value if wrong else f"{len(found.named)} pages, writable and Normal write-back",
    )
    overlap = sorted(tables.pages & found.destinations)
    shown = ", ".join(f"{page:#x}" for page in overlap[:_SHOWN])
    checks.add(
        _COPIED,
        "no destination is a table that TTBR1 uses",
        not overlap,
        shown or f"{len(tables.pages)} tables",
    )
    table = kimage["ttbr1"] & _TTBR_TABLE
    addresses = AddressMap(const(0), const(place.memstart), *place.linear)
    checks.formula(
        "tables-in-memory",
        "the table that trans_pgd_create_copy returns",
        addresses.in_linear_map(const(place.phys_to_linear(table))),
        [stop.state()],
    )
    for call in trace.called("trans_pgd_create_copy"):
        general = call.before.stop.general
        _check_copy(stop, tables, general["x2"], general["x3"], checks)


def _check_copy(stop: Stop, tables: Tables, start: int, end: int, checks: Checks) -> None:
    """The copy maps what the kernel's own tables map from ``start`` up to ``end``, and all of it writable."""
    own, copy = dict(stop.tables(high=True).leaves(start, end)), dict(tables.leaves(start, end))
    told = []
    for address, leaf in own.items():
        copied = copy.get(address)
        if copied is None or (copied.pa, copied.size) != (leaf.pa, leaf.size):
            told.append(f"{address:#x} is not mapped as the kernel maps it")
        elif not copied.writable:
            told.append(f"{address:#x} is read-only: {leaf.descriptor:#x} became {copied.descriptor:#x}")
    value = (
        f"{len(told)} of {len(own)}: {'; '.join(told[:_SHOWN])}" if told else f"{len(own)} pages and blocks"
    )
    checks.add(ASSUMED, "trans_pgd_create_copy builds a copy of the kernel's map", not told, value)


def _check_idmap(stop: Stop, kimage: Kimage, found: KexecList, checks: Checks) -> None:
    """What the routine's TTBR0 maps: the control page to itself."""
    checks.add("t0sz-in-range", "kimage->t0sz", kimage["t0sz"] < 64, f"{kimage['t0sz']}")
    if kimage["t0sz"] >= 64:
        return
    tables = stop.tables(high=False, base=kimage["ttbr0"], t0sz=kimage["t0sz"])
    leaf = tables.walk(kimage["kern_reloc"])
    same = leaf is not None and leaf.pa == kimage["kern_reloc"] and leaf.executable and leaf.accessed
    value = "not mapped" if leaf is None else f"descriptor {leaf.descriptor:#x}"
    for assumption, what in (
        (_COPIED, "TTBR0 of the kimage maps the routine's page"),
        (ASSUMED, "trans_pgd_idmap_page builds a table that maps the page to itself"),
    ):
        checks.add(assumption, what, same, value)
    overlap = tables.pages & found.destinations
    checks.add(
        _COPIED, "no destination is a table that TTBR0 uses", not overlap, f"{len(tables.pages)} tables"
    )


def _check_vectors(place: Placement, kimage: Kimage, found: KexecList, trace: Trace, checks: Checks) -> None:
    """The copied vectors for EL2, where the hyp stub lies below."""
    if not trace.called("trans_pgd_copy_el2_vectors"):
        checks.add(
            "",
            "el2_vectors is 0 where no vectors were copied",
            kimage["el2_vectors"] == 0,
            f"{kimage['el2_vectors']:#x}",
        )
        return
    vectors = place.kernel.symbol("trans_pgd_stub_vectors")
    at = kimage["el2_vectors"]
    if vectors is None or not place.guest.is_ram(at, _VECTORS_BYTES):
        checks.add(ASSUMED, "trans_pgd_copy_el2_vectors copies the vectors", False, f"el2_vectors is {at:#x}")
        return
    same = place.guest.read(at, _VECTORS_BYTES) == place.kernel.read(vectors.address, _VECTORS_BYTES)
    apart = at & -found.page_size not in found.destinations
    checks.add(ASSUMED, "trans_pgd_copy_el2_vectors copies the vectors", same and apart, f"to {at:#x}")
    checks.add(
        ASSUMED,
        "trans_pgd_copy_el2_vectors leaves them clean and fetchable",
        None,
        "the emulator has no caches",
    )
