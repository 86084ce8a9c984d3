"""Run a chain on concrete inputs, and compare the run with the symbolic states under the same values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kexec_verify.arm64.execute import Exit
from kexec_verify.arm64.state import FLAGS, GENERAL, SYSTEM, Access, Event, State
from kexec_verify.arm64.system import left_by_hvc
from kexec_verify.errors import InternalError, UnsupportedError
from kexec_verify.kexec.calls import clobbered, filled
from kexec_verify.logic import Function, Term, const, var
from kexec_verify.refute.functions.chain import MEMORY, Chain, Link
from kexec_verify.refute.functions.effects import Answer, Happened, Inputs
from kexec_verify.refute.functions.path_run import PAGE, PathRun
from kexec_verify.refute.functions.values import Values
from kexec_verify.specs.contracts import Contract, contract
from kexec_verify.symbolic.objects import Object, Objects

_VISIBLE = (*GENERAL, "sp", *FLAGS, *SYSTEM)


def inputs(chain: Chain, values: Values) -> Inputs:
    """Return what the run of ``chain`` starts with, and how its calls are answered."""
    first = chain.links[0]
    registers = {name: values(first.bind(first.segment.start.registers[name])) for name in _VISIBLE}
    answers = tuple(_answer(chain, link, event, values) for link, event in _answered(chain))
    accessed = [(values(link.bind(a.address)), a.size) for link, a in chain.accesses]
    accessed += [(at, len(data) // 2) for answer in answers for at, data in answer.stores.items()]
    held = stored(chain, values, first.segment.start)
    accessed += [(at, 1) for at in held]
    pages = {at & -PAGE for start, size in accessed for at in (start, start + size - 1)}
    memory = _words(chain, values, pages) | _known(chain, values, pages)
    for at, byte in held.items():
        shift = 8 * (at & 7)
        memory[at & -8] = memory.get(at & -8, 0) & ~(0xFF << shift) | byte << shift
    return Inputs(first.segment.at, registers, memory, tuple(sorted(pages)), answers, len(chain.trace))


def _words(chain: Chain, values: Values, pages: set[int]) -> dict[int, int]:
    """Return the words of memory at entry that the chain mentions, where the run has memory."""
    found = {}
    for _, address in list(chain.reads.values()):
        at = values(address)
        if at & -PAGE in pages:
            found[at] = values(Function(MEMORY)(const(at)))
    return found


def _known(chain: Chain, values: Values, pages: Iterable[int]) -> dict[int, int]:
    """Return words of objects that never change."""
    first = chain.links[0]
    memory = first.segment.start.memory
    found: dict[int, int] = {}
    for item in memory.objects if isinstance(memory, Objects) else ():
        start = 0 if item.base is None else values(first.bind(item.base))
        for at in {at & -8 for at in item.known if start + at & -PAGE in pages}:
            word = bytes(item.known.get(at + i, 0) for i in range(8))
            found[start + at] = int.from_bytes(word, "little")
    return found


def _answered(chain: Chain) -> list[tuple[Link, Event]]:
    """Return the calls and HVCs that are answered: all except one that the chain ends before."""
    # The last event is the one that the chain ends before; in a loop an earlier iteration has it as well.
    events = chain.events[:-1] if isinstance(chain.place.subject, Event) else chain.events
    return [
        (link, event) for link, event in events if event.tag is not None or event.name == "CallHyperVisor"
    ]


def _answer(chain: Chain, link: Link, event: Event, values: Values) -> Answer:
    context, name = chain.proof.context, event.name.removeprefix("call ")
    if event.tag is None:
        left = left_by_hvc(len(event.before.events) + 1)
        found = {r: values(link.bind(value)) for r, value in left.items()}
        return Answer(name, event.at, found)
    promised = _contract(name)
    names = [r for r in clobbered(context, name, promised) if r in _VISIBLE]
    names += [r for r in promised.changes if r in SYSTEM]
    before = event.before.registers
    widths = {r: before[r].length for r in names}
    found = {r: values(link.bind(var(f"{r}@{event.tag}", widths[r]))) for r in names}
    stores: dict[int, str] = {}
    for number, register in enumerate(promised.fills):
        word = values(link.bind(filled(event, number)))
        stores[values(link.bind(before[register]))] = word.to_bytes(8, "little").hex()
    if promised.copies is not None:
        dest, source, length = (values(link.bind(term)) for term in promised.copies(before))
        if length:
            stores[dest] = context.kernel.read(source, length).hex()
    return Answer(name, event.at, found, _by_page(stores))


def _contract(name: str) -> Contract:
    found = contract(name)
    assert found is not None
    return found


def _by_page(stores: dict[int, str]) -> dict[int, str]:
    """Split the stores at page boundaries, so that each page they touch is named."""
    found = {}
    for start, data in stores.items():
        at, rest = start, bytes.fromhex(data)
        while rest:
            size = PAGE - at % PAGE
            found[at], rest = rest[:size].hex(), rest[size:]
            at += size
    return found


def confirm(chain: Chain, values: Values, given: Inputs) -> PathRun:
    """Return the run of ``chain`` from ``given``.

    :raises InternalError: if it differs from the chain in anything that both determine.
    :raises UnsupportedError: for a chain on which a static key is set once, and not set another time.
    """
    code = chain.proof.code.as_taken(chain.trace)
    if code is None:
        raise UnsupportedError(f"a path of {chain.proof.code.name} on which a static key is turned")
    run = PathRun(code, given)
    run.run()
    assert run.left is not None
    wanted = chain.trace
    if tuple(run.trace) != wanted:
        pairs = enumerate(zip(run.trace, wanted, strict=False))
        differs = next((i for i, (seen, asked) in pairs if seen != asked), len(run.trace))
        at = wanted[min(differs, len(wanted) - 1)]
        raise InternalError(
            f"a run of {chain.proof.code.name} leaves its path after {differs} of {len(wanted)} "
            f"instructions, where {at:#x} comes next: {run.left.kind} at {run.left.at:#x}"
        )
    _accesses(chain, values, run)
    _events(chain, values, run)
    if chain.place.kind == "end":
        _end(chain, values, run)
    return run


def _same(what: str, wanted: Any, found: Any) -> None:
    if wanted != found:
        raise InternalError(f"a run differs from its path in {what}: expected {wanted}, found {found}")


def _same_registers(what: str, wanted: dict[str, int], found: dict[str, int]) -> None:
    for name, value in wanted.items():
        _same(f"{name} {what}", hex(value), hex(found[name]))


def _accesses(chain: Chain, values: Values, run: PathRun) -> None:
    def one(link: Link, access: Access) -> tuple[str, int, int, int, int]:
        address, value = values(link.bind(access.address)), values(link.bind(access.value))
        return (access.kind, access.at, address, access.size, value)

    # The accesses of one instruction are compared in any order.
    wanted = sorted(one(link, access) for link, access in chain.accesses)
    found = sorted(tuple(access) for access in run.accesses)
    if isinstance(chain.place.subject, Access):
        # The last instruction makes further accesses after the one of the obligation.
        last = sorted(tuple(access) for access in run.accesses[run.before_last :])
        for access in [access for access in last if access not in wanted]:
            found.remove(access)
    _same("accesses", wanted, found)


def _events(chain: Chain, values: Values, run: PathRun) -> None:
    observed = list(run.events)
    subject, left = chain.place.subject, run.left
    if isinstance(subject, Event) and subject.tag is not None and left is not None:
        # The call that the chain ends before has no answer, so the run ends there as well.
        observed.append(Happened("call", left.at, 0, run.registers()))
    wanted = [(e.name if e.tag is None else "call", e.at) for _, e in chain.events]
    _same("events", wanted, [(event.name, event.at) for event in observed])
    for (link, event), seen in zip(chain.events, observed, strict=True):
        where = f"before {event.name} at {event.at:#x}"
        registers = {name: values(link.bind(event.before.registers[name])) for name in _VISIBLE}
        _same_registers(where, registers, seen.registers)
        if event.name.startswith("msr "):
            _same(f"what {event.name} writes", values(link.bind(event.operands[0])), seen.operand)


def _end(chain: Chain, values: Values, run: PathRun) -> None:
    place, bind, left = chain.place, chain.bind, run.left
    assert left is not None
    if isinstance(place.then, Exit):
        _same("the way it leaves", place.then.kind, left.kind)
        if place.then.kind in ("call", "br", "ret"):
            _same("where it goes", values(bind(place.then.target)), left.target)
    else:
        _same("where it is", place.then, left.target)
    wanted = {name: values(bind(place.state.registers[name])) for name in _VISIBLE}
    _same_registers("at the end", wanted, run.registers())
    for address, byte in stored(chain, values, place.state).items():
        _same(f"the byte at {address:#x}", byte, run.read(address, 1))


def stored(chain: Chain, values: Values, state: State) -> dict[int, int]:
    """Return the bytes that a state of the last segment has in memory that was stored to."""
    assert isinstance(state.memory, Objects)
    found = {}
    for item in state.memory.objects:
        start = _base(chain, values, item)
        for offset, byte in state.memory.stored_in(item.name).items():
            found[(start + offset) % (1 << 64)] = values(chain.bind(byte))
    return found


def _base(chain: Chain, values: Values, item: Object) -> int:
    base: Term | None = item.base
    return 0 if base is None else values(chain.bind(base))
