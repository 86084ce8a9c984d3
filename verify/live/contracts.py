"""What specs/contracts.py says of callees, held against each call of a run."""

from __future__ import annotations

from collections.abc import Collection

from kexec_verify.arm64.state import GHOSTS, NAMES, width
from kexec_verify.live.calls import KEPT, Call
from kexec_verify.live.checks import Checks
from kexec_verify.live.entries import machine_kexec_proof
from kexec_verify.live.formulas import Compiled
from kexec_verify.live.placement import Placement
from kexec_verify.logic import Formula, Term, const, var
from kexec_verify.specs.contracts import Contract, contract

ASSUMED = "callees-by-contract"
_SYSTEM_WIDTHS = {name: width(name) for name in NAMES}


def check_call(place: Placement, call: Call, checks: Checks) -> None:
    """Check one call: what the callee preserves, and what its contract says of its result.

    A call of a callee whose contract is proved is checked too: the proof is of the linked bytes.
    """
    names = place.kernel.symbols_at(call.target)
    found = next((known for name in names if (known := contract(name)) is not None), None)
    where = f"{call.name}, called at {place.where(call.at)}"
    if found is None:
        checks.add("", where, None, "it has no contract: it is run as part of its caller")
        return
    assumption = ASSUMED if found.assumed else ""
    _check_frame(place, found, call, where, assumption, checks)
    _check_result(place, found, call, where, assumption, checks)


def _check_frame(
    place: Placement, found: Contract, call: Call, where: str, assumption: str, checks: Checks
) -> None:
    before, after = call.before.stop.general, call.after.stop.general
    lost = [name for name in KEPT if before[name] != after[name]]
    system = [
        name
        for name, value in call.before.system.items()
        if call.after.system[name] != value and name not in found.changes
    ]
    words = _other_words(found, call, place.linked.layout.others)
    told = [f"{name} is not preserved" for name in (*lost, *system)]
    told += [f"{name}+{offset:#x} changes from {old:#x} to {new:#x}" for name, offset, old, new in words[:4]]
    value = "; ".join(told) or "x19 to x29, SP, system registers and the caller's objects"
    checks.add(assumption, f"{where}, preserves", not told, value)


def _other_words(found: Contract, call: Call, others: Collection[int]) -> list[tuple[str, int, int, int]]:
    """Return the words of the caller's objects that differ and that the contract does not let it change."""
    general = call.before.stop.general
    filled = {general[register] for register in found.fills}
    at = {"the stack frame": general["sp"], "struct kimage": call.kimage}
    return [
        word
        for word in call.changed()
        if not (found.copies is not None and word[0] == "the control page")
        and at.get(word[0], 0) + word[1] not in filled
        and not (found.takes_pages and word[0] == "struct kimage" and word[1] in others)
    ]


def _check_result(
    place: Placement, found: Contract, call: Call, where: str, assumption: str, checks: Checks
) -> None:
    before, after = (_registers(moment.stop.register) for moment in (call.before, call.after))
    if found.ensures is not None:
        globals_ = place.context.globals
        if "reserved_pg_dir" in globals_:
            before["PA(reserved_pg_dir)"] = const(place.image_to_phys(globals_["reserved_pg_dir"]))
        folds = globals_.folds_ttbr
        before["folds TTBR"] = const(2 if folds is None else int(folds))
        for part in _conjuncts(found.ensures(before, after)):
            checks.formula(assumption, f"{where}, ensures", part, [call.after.stop.state()])
    if found.answers_stub:
        proof = machine_kexec_proof(place)
        below = Compiled(place.context.stub_below(proof.entry)).holds(call.before.stop.state())
        answer = call.after.stop.general["x0"] & 0xFF
        checks.add(
            assumption, f"{where}, answers", answer == int(below), f"{answer}, hyp stub below: {below}"
        )
    if found.copies is not None:
        dest, source, length = (_constant(term) for term in found.copies(before))
        same = call.after.stop.read(dest, length) == call.before.stop.read(source, length)
        checks.add(assumption, f"{where}, copies", same, f"{length} bytes from {source:#x} to {dest:#x}")
    if found.fails:
        result = call.after.stop.general["x0"] & 0xFFFF_FFFF
        checks.add("", f"{where}, succeeds", result == 0, f"w0 = {result:#x}")


def _registers(value: object) -> dict[str, Term]:
    """Return the registers as constants, and ghost components as variables that no emulator has."""
    found = {}
    for name, bits in _SYSTEM_WIDTHS.items():
        try:
            found[name] = const(value(name), bits)  # type: ignore[operator]
        except KeyError:  # the machine has none, or no instruction reads it
            found[name] = var(f"unfinished@{name}", bits)
    return found | {name: var(f"{name}@after", bits) for name, bits in GHOSTS.items()}


def _conjuncts(formula: Formula) -> list[Formula]:
    return [part for arg in formula.args for part in _conjuncts(arg)] if formula.op == "And" else [formula]


def _constant(term: Term) -> int:
    assert term.op == "BVV", term
    return int(term.args[0])
