"""Print what was inferred of loops as formulas.

``x₀`` is the value that ``x`` had when the loop was entered, ``progress`` the number of bytes and
``iterations`` the number of iterations since.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

from kexec_verify.arm64.lift import Code
from kexec_verify.arm64.state import GENERAL
from kexec_verify.errors import LimitError, UnsupportedError
from kexec_verify.kexec.abi_variant import AbiVariant
from kexec_verify.kexec.tables import CUT
from kexec_verify.logic import constant
from kexec_verify.prove.discharge import Result
from kexec_verify.report.listing import loop_heads
from kexec_verify.report.model import InvariantRecord
from kexec_verify.symbolic.explore import Explorer
from kexec_verify.symbolic.loop_iterations import LoopIterations
from kexec_verify.symbolic.loops import Pointer, Shape, generic_state
from kexec_verify.theorems import CoveredFunction
from kexec_verify.verdict import Verdict

_MAINTENANCE = {
    "civac": "cleaned and invalidated",
    "cvac": "cleaned",
    "ivac": "invalidated",
    "cvau": "cleaned to the point of unification",
    "ivau": "invalidated in the instruction cache",
}
_DEFINED = "leaves the registers as its definition says"


def loop_invariants(
    code: Code, variant: AbiVariant | None, results: Iterable[Result]
) -> list[InvariantRecord]:
    """Return what always holds at the heads of the routine's loops; none without an ABI variant.

    :param results: of the obligations; an invariant is in use if it is kept by a proved one.
    """
    if variant is None or variant.unclear:
        return []
    explorer = Explorer(code, frozenset({variant.loop, *variant.exits}))
    try:
        explorer.run(generic_state(), variant.loop)
    except (UnsupportedError, LimitError):
        return []
    found = [InvariantRecord(variant.loop, formula) for formula in _list_loop(variant)]
    kept = list(_kept(results))
    for shape in {loop.shape.head: loop.shape for loop in explorer.entered}.values():
        found += [InvariantRecord(shape.head, formula) for formula in _definition(shape)]
        found += [record for record in kept if record.at == shape.head]
    return found


def other_invariants(listed: CoveredFunction, results: Iterable[Result]) -> list[InvariantRecord]:
    """Return what is proved to hold at the heads of the loops of a function other than the routine.

    :param results: of the obligations.
    """
    code = listed.code
    counted = {loop.head: loop for loop in listed.iterations}
    results = list(results)
    proved = [result.obligation for result in results if result.verdict is Verdict.PROVED]
    found: list[InvariantRecord] = []
    for head in loop_heads(code):
        start = f"an iteration of the loop at {code.where(head)} "
        said = dict.fromkeys(o.sentence.removeprefix(start) for o in proved if o.sentence.startswith(start))
        formulas: list[str] = []
        if _DEFINED in said:
            formulas += _counted(counted[head]) if head in counted else _shaped(code, head)
        formulas += [sentence.removeprefix("keeps: ") for sentence in said if sentence.startswith("keeps: ")]
        arrivals = [r.verdict for r in results if (r.obligation.name, r.obligation.at) == (CUT, head)]
        if arrivals and all(verdict is Verdict.PROVED for verdict in arrivals):
            formulas += listed.known.get(head, ())
        found += [InvariantRecord(head, formula) for formula in formulas]
    return found


def _shaped(code: Code, head: int) -> list[str]:
    try:
        return list(_definition(Explorer(code, frozenset()).shape(head)))
    except (UnsupportedError, LimitError):
        return []


def _counted(loop: LoopIterations) -> Iterator[str]:
    """Yield the state at the loop's head after ``iterations`` iterations."""
    for name, step in sorted(loop.growing.items()):
        yield f"{name} = {name}₀ {'-' if step < 0 else '+'} iterations × {abs(step):#x}"
    free = [name for name in GENERAL if name in loop.unknown]
    if free:
        yield f"{', '.join(free)} = any value"
    yield "every other register = its value when the loop was entered"
    yield "memory = memory₀"


def _list_loop(variant: AbiVariant) -> Iterator[str]:
    yield f"{variant.entry} = the current word of the list"
    yield f"{variant.ptr} = the address of the word after it"
    yield f"{variant.dest} = the destination of the next page"
    yield "memory = what the list machine has made of it up to this word"


def _definition(shape: Shape) -> Iterator[str]:
    """Yield the state at the loop's head after ``progress`` bytes, component by component."""
    stride = constant(shape.stride)
    yield f"progress = n × {f'{stride} bytes' if stride is not None else _term(shape)}"
    for name, ratio in sorted(shape.advancing.items()):
        if name in GENERAL:
            yield f"{name} = {name}₀ {_scaled(ratio)}"
    if shape.copied:
        dest, source = (_pointer(pointer) for pointer in shape.copied)
        yield f"memory = memory₀ with [{dest}, +progress) = copy of [{source}, +progress)"
    if shape.maintained:
        pointer, operation = shape.maintained
        start = _pointer(pointer)
        yield f"cache lines of [{start}, +progress) = {_MAINTENANCE[operation]}"
    free = [name for name in GENERAL if name in shape.clobbered]
    if free:
        yield f"{', '.join(free)} = any value"
    yield "every other register = its value when the loop was entered"


def _term(shape: Shape) -> str:
    """Return a symbolic stride: a register that no iteration changes."""
    return " + ".join(sorted(name.split("@")[0] for name in shape.stride.variables))


def _scaled(ratio: Fraction) -> str:
    sign = "-" if ratio < 0 else "+"
    size = abs(ratio)
    if size == 1:
        return f"{sign} progress"
    return f"{sign} progress / {size.denominator}" if size.denominator > 1 else f"{sign} {size} × progress"


def _pointer(pointer: Pointer) -> str:
    if not pointer.offset:
        return f"{pointer.register}₀"
    return f"{pointer.register}₀ {'-' if pointer.offset < 0 else '+'} {abs(pointer.offset):#x}"


def _kept(results: Iterable[Result]) -> Iterator[InvariantRecord]:
    """Yield each invariant that induction kept, once; the obligation names it after its colon."""
    seen = set()
    for result in results:
        required = result.obligation
        label = required.sentence.partition(" keeps: ")[2]
        if required.at is None or not label or (required.at, label) in seen:
            continue
        if required.name.endswith("-kept") and result.verdict is Verdict.PROVED:
            seen.add((required.at, label))
            yield InvariantRecord(required.at, label)
