"""What the proofs assume of the states in which the kernel's functions are entered, by their own formulas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kexec_verify.arm64.lift import Code
from kexec_verify.kexec.context import FRAME_BYTES
from kexec_verify.kexec.machine_kexec import MachineKexec
from kexec_verify.kexec.post_load import PostLoad
from kexec_verify.kexec.routine import Routine
from kexec_verify.kexec.soft_restart import SoftRestart
from kexec_verify.live.checks import Checks
from kexec_verify.live.formulas import Compiled, State
from kexec_verify.live.placement import Placement
from kexec_verify.live.stop import Stop
from kexec_verify.logic import Formula, Term, aligned, variables
from kexec_verify.obligation import Facts

_SEGMENT, _ADDRESS = "segment", "a"
"""Variables that stand for any index of a segment, and for any address."""
_TASK_BYTES = 4096
_UNDECIDED = "no solver takes part"


def never(facts: Facts, goal: Formula) -> bool:
    """Decide nothing: the formulas of a proof are used here, and nothing is proved."""
    raise AssertionError(_UNDECIDED)


def post_load_proof(place: Placement) -> PostLoad:
    """Return the proof of machine_kexec_post_load for the running kernel, not run."""
    variant = place.linked.variant
    return PostLoad(place.context, never, place.routine, variant.tests_head, variant.kimage)


def machine_kexec_proof(place: Placement) -> MachineKexec:
    """Return the proof of machine_kexec for the running kernel, not run."""
    variant = place.linked.variant
    return MachineKexec(place.context, never, variant.tests_head, not variant.kimage)


def value(term: Term, stop: Stop) -> int:
    """Return the value of a proof's term at a stop."""
    return Compiled(term).value(stop.state())


def at_post_load(place: Placement, stop: Stop, checks: Checks) -> None:
    """Check what is assumed where machine_kexec_post_load is entered."""
    proof = post_load_proof(place)
    number = value(proof.image.nr_segments, stop)
    facts: list[tuple[str, Formula]] = list(proof.assumptions())
    if place.linked.variant.kimage:
        vectors = place.context.field(proof.entry, proof.kimage, place.linked.layout.el2_vectors)
        facts.append(("kimage-zeroed", vectors == 0))
    kimage = stop.general["x0"]
    addresses = [
        *range(stop.sp - FRAME_BYTES, stop.sp, 8),
        *range(kimage, kimage + place.linked.layout.size, 8),
    ]
    _check(checks, "where machine_kexec_post_load is entered", facts, stop, number, addresses)


def at_machine_kexec(place: Placement, stop: Stop, checks: Checks) -> None:
    """Check what is assumed where machine_kexec is entered."""
    proof = machine_kexec_proof(place)
    memstart = place.context.word(proof.entry, "memstart_addr")
    facts = (
        *proof.assumptions(),
        *proof.quiet(proof.entry),
        ("memstart-aligned", aligned(memstart, place.linked.page_size)),
    )
    _check(checks, "where machine_kexec is entered", facts, stop)


def at_routine(place: Placement, stop: Stop, checks: Checks) -> None:
    """Check what is assumed where the relocation routine is entered."""
    routine = place.routine
    proof = Routine(Code(routine.name, routine.address, routine.code), place.linked.variant)
    _check(checks, f"where {routine.name} is entered", proof.assumptions(), stop)


def at_restart(place: Placement, stop: Stop, checks: Checks) -> None:
    """Check what is assumed where the restart code is entered."""
    proof = SoftRestart(place.context, never)
    _check(checks, f"where {proof.code.name} is entered", proof.assumptions(), stop)


def _check(
    checks: Checks,
    where: str,
    facts: Iterable[tuple[str, Formula]],
    stop: Stop,
    segments: int = 0,
    addresses: Iterable[int] = (),
) -> None:
    places = list(addresses)
    for label, formula in facts:
        names = set(variables([formula]))
        checks.formula(label, where, formula, _instances(stop, names, segments, places))


def _instances(stop: Stop, names: set[str], segments: int, addresses: list[int]) -> Iterator[State]:
    """Yield a state for each segment and each address that a formula with these variables speaks of."""
    for segment in range(segments) if _SEGMENT in names else [0]:
        for address in addresses if _ADDRESS in names else [0]:
            further = {}
            if _SEGMENT in names:
                further[_SEGMENT] = segment
            if _ADDRESS in names:
                further[_ADDRESS] = address
            yield stop.state(**further)


def objects_apart(place: Placement, stop: Stop, control: int, checks: Checks, where: str) -> None:
    """Check that stack frame, struct kimage, task, control page and image share no page of RAM.

    struct kimage and the task are smaller than a page, and may share one with other objects of their size.
    """
    page = place.linked.page_size
    kimage = stop.general["x0"]
    task = stop.register("sp_el0")
    ranges = {
        "the stack frame": (stop.sp - 512, stop.sp),
        "struct kimage": (kimage, kimage + place.linked.layout.size),
        "the task": (task, task + _TASK_BYTES),
    }
    found = {name: _physical(stop, start, end) for name, (start, end) in ranges.items()}
    found["the control page"] = [(control, control + page)]
    found["the image"] = [(place.base, place.base + place.linked.size)]
    names = list(found)
    shared = [
        f"{one} and {other}"
        for i, one in enumerate(names)
        for other in names[i + 1 :]
        if any(a < d and c < b for a, b in found[one] for c, d in found[other])
    ]
    shown = ", ".join(f"{name} at {parts[0][0]:#x}" for name, parts in found.items())
    value = f"overlap: {'; '.join(shared)}; {shown}" if shared else shown
    checks.add("objects-apart", where, not shared, value)


def _physical(stop: Stop, start: int, end: int) -> list[tuple[int, int]]:
    """Return where in RAM the bytes from ``start`` up to ``end`` are."""
    found = []
    while start < end:
        piece = min(end - start, 4096 - start % 4096)
        at = stop.physical(start)
        found.append((at, at + piece))
        start += piece
    return found
