"""Find which executed instructions caused a bad effect, with the number of each one's step in the run."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable

import msgspec
from kexec_verify.arm64.lift import Code
from kexec_verify.refute import ghost
from kexec_verify.refute.effects import Access, Effect, Event
from kexec_verify.refute.machine import Machine
from kexec_verify.refute.scenario import Scenario
from kexec_verify.refute.violation import Violation

_WORD = re.compile(r"\b(?:word|memory) at (0x[0-9a-f]+)")
_BARRIERS = {
    "DataSynchronizationBarrier": "DSB",
    "InstructionSynchronizationBarrier": "ISB",
}


class Cause(msgspec.Struct, frozen=True):
    """An executed instruction that caused a bad effect, and what it did.

    :param step: number of the instruction in the run, counted from 1.
    """

    step: int
    at: int
    where: str
    text: str
    sentence: str


type _Found = list[tuple[int, str]]
"""Numbers of effects in the log, counted from 1, each with what it did."""


def causes(
    code: Code, watch: frozenset[int], scenario: Scenario, limit: int, violation: Violation
) -> tuple[Cause, ...]:
    """Return the steps that ``violation`` comes from, the first one first; none where none is known.

    :param watch: as for Machine; ``limit``: as for Machine.run.
    """
    reader = _READERS.get(violation.property)
    if reader is None:
        return ()
    lengths: list[int] = []

    def count(address: int) -> None:
        lengths.append(len(machine.log))

    machine = Machine(code, watch, count)
    log = machine.run(scenario, limit).log[: max(violation.index - 1, 0)]
    found = []
    for number, sentence in reader(log, violation, scenario):
        at = log[number - 1].at
        step = bisect.bisect_left(lengths, number)
        found.append(Cause(step, at, code.where(at), code.text(code.at(at)), sentence))
    return tuple(found)


def _dirty(log: list[Effect], violation: Violation, scenario: Scenario) -> _Found:
    """Return the store that made a line dirty, and the maintenance of that line since."""
    word = _word(violation)
    if word is None:
        return []
    line, size = word & -scenario.line_size, scenario.line_size
    store = _last(log, lambda e: isinstance(e, Access) and e.kind == "store" and _covers(e, word))
    since = store or 0
    found: _Found = []
    if store:
        found.append((store, f"stores to {word:#x}: this makes the cache line at {line:#x} dirty"))
    own = _last(log, lambda e: _maintains(e) and 0 <= e.operand - line < size)  # type: ignore[union-attr]
    if own and own > since:
        verb = "discards" if violation.found == ghost.LINE_STATES[ghost.LOST] else "cleans"
        tail = "" if verb == "discards" else "; no DSB completes it before the exit"
        found.append((own, f"{verb} the line at {line:#x}{tail}"))
        return found
    other = _last(log, _maintains)
    if other and other > since:
        event = log[other - 1]
        assert isinstance(event, Event)
        found.append((other, f"is the last maintenance by address: of {event.operand:#x}, not of this line"))
    return found


def _stale(log: list[Effect], violation: Violation, scenario: Scenario) -> _Found:
    """Return the last store, and the last invalidation of the instruction cache."""
    found: _Found = []
    store = _last(log, lambda e: isinstance(e, Access) and e.kind == "store")
    invalidation = _last(log, lambda e: isinstance(e, Event) and e.name == "IC_IALLU")
    if store:
        found.append((store, "is the last store: instructions fetched before it may be stale"))
    if invalidation:
        found.append((invalidation, _invalidation(log[invalidation:], violation.found)))
    return sorted(found)


def _invalidation(after: list[Effect], state: str) -> str:
    done = [_BARRIERS[e.name] for e in after if isinstance(e, Event) and e.name in _BARRIERS]
    barriers = f"after it: {', '.join(done)}" if done else "no DSB or ISB comes after it"
    return f"invalidates the instruction cache; {barriers}; then it is {state}"


def _unsynced(log: list[Effect], violation: Violation, scenario: Scenario) -> _Found:
    """Return the last change of context without an ISB after it."""
    changed = _last(log, lambda e: isinstance(e, Event) and (e.name.startswith("msr ") or e.name in _UNSYNCS))
    barrier = _last(log, lambda e: isinstance(e, Event) and e.name == "InstructionSynchronizationBarrier")
    if changed and (barrier or 0) < changed:
        return [(changed, "changes the context of execution; no ISB comes after it")]
    return []


_UNSYNCS = frozenset({"IC_IALLU", "TLBI_VMALLE1"})


def _table(log: list[Effect], violation: Violation, scenario: Scenario) -> _Found:
    """Return the last write of TTBR1_EL1, and TLB invalidation since."""
    write = _last(log, lambda e: isinstance(e, Event) and e.name == "msr ttbr1_el1")
    if not write:
        return []
    event = log[write - 1]
    assert isinstance(event, Event)
    found = [(write, f"writes {event.operand:#x} to TTBR1_EL1")]
    flush = _last(log, lambda e: isinstance(e, Event) and e.name == "TLBI_VMALLE1")
    if flush and flush > write:
        found.append((flush, "invalidates the TLB"))
    return found


def _copied(log: list[Effect], violation: Violation, scenario: Scenario) -> _Found:
    """Return the last store to a word that ends with a wrong value."""
    word = _word(violation)
    if word is None:
        return []
    store = _last(log, lambda e: isinstance(e, Access) and e.kind == "store" and _covers(e, word))
    return [(store, f"is the last store to {word:#x}")] if store else []


_READERS: dict[str, Callable[[list[Effect], Violation, Scenario], _Found]] = {
    "reloc-clean-to-poc": _dirty,
    "reloc-icache-invalid": _stale,
    "reloc-context-synced": _unsynced,
    "reloc-break-before-make": _table,
    "reloc-dest-pages": _copied,
}


def _word(violation: Violation) -> int | None:
    found = _WORD.search(violation.effect)
    return int(found[1], 16) if found else None


def _covers(access: Access, word: int) -> bool:
    return access.address < word + ghost.WORD and word < access.address + access.size


def _maintains(effect: Effect) -> bool:
    return isinstance(effect, Event) and effect.name in ("DC_CIVAC", "DC_CVAC", "DC_IVAC")


def _last(log: list[Effect], wanted: Callable[[Effect], bool]) -> int | None:
    """Return the number of the last effect that is wanted, counted from 1; None if there is none."""
    return next((number for number in range(len(log), 0, -1) if wanted(log[number - 1])), None)
