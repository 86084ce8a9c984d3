"""Collect each kernel's effects other than moving data: system instructions, calls, stores, tests."""

from __future__ import annotations

from collections.abc import Iterable

from kexec_verify.arm64.state import ICACHE_INVALID, State
from kexec_verify.diff.model import Effect
from kexec_verify.diff.rename import leaves
from kexec_verify.diff.side import Side
from kexec_verify.diff.whole_paths import WholePath
from kexec_verify.kexec.calls import objects
from kexec_verify.kexec.post_load import PostLoad
from kexec_verify.logic import And, Formula, Not, Term
from kexec_verify.obligation import Facts, Obligation
from kexec_verify.prove.discharge import decide
from kexec_verify.specs.relocate_kernel import done
from kexec_verify.symbolic.objects import STACK_FRAME

_SHOWN = {
    "InstructionSynchronizationBarrier": "isb",
    "DataSynchronizationBarrier": "dsb",
    "DataMemoryBarrier": "dmb",
    "CallHyperVisor": "hvc",
}
_BARRIERS = frozenset({"isb", "dsb", "dmb"})


def shown(name: str) -> str:
    """Return an event as an assembler writes it."""
    return _SHOWN.get(name, name.replace("_", " ").lower() if name.isupper() or "_" in name[:5] else name)


def events(side: Side, states: Iterable[State]) -> dict[str, list[str]]:
    """Return the places of each kind of event, by kind."""
    found: dict[str, dict[str, None]] = {}
    for state in states:
        for event in state.events:
            name = event.name if event.name.startswith(("call ", "msr ", "warn")) else shown(event.name)
            found.setdefault(name, {})[side.places.name(event.at)] = None
    return {name: list(places) for name, places in found.items()}


def on_the_way(whole_path: WholePath) -> dict[str, list[str]]:
    """Return the events from machine_kexec to the entry, in one case."""
    passed = [state for state in whole_path.mk.ran if not decide(state.facts, Not(whole_path.case[1]))]
    found = events(whole_path.side, [*passed, *(state for end in whole_path.ends for state in end.states)])
    stops = [
        bug
        for bug in whole_path.mk.bugs
        if bug.kind == "BUG" and not decide(bug.facts, Not(whole_path.case[1]))
    ]
    if stops:
        found["BUG instead of it"] = sorted({whole_path.side.places.name(bug.at) for bug in stops})
    return found


def when_loaded(side: Side, post_load: PostLoad) -> dict[str, list[str]]:
    """Return what machine_kexec_post_load calls and stores for an image in place."""
    passed = [state for state in post_load.ran if not decide(state.facts, Not(post_load.in_place))]
    found = {k: v for k, v in events(side, passed).items() if k.startswith("call ")}
    for state in passed:
        for access in state.accesses:
            item, _ = objects(access.before).find(access.address)
            if access.kind == "store" and item.name != STACK_FRAME:
                places = found.setdefault(f"store to {item.name}", [])
                where = side.places.name(access.at)
                if where not in places:
                    places.append(where)
    return found


def compared(old: dict[str, list[str]], new: dict[str, list[str]]) -> tuple[Effect, ...]:
    """Return each kind of effect with its places on either side; kinds that one side lacks come first."""
    names = [*old, *(name for name in new if name not in old)]
    found = [Effect(name, tuple(old.get(name, ())), tuple(new.get(name, ()))) for name in names]
    return tuple(sorted(found, key=lambda effect: (bool(effect.old) == bool(effect.new), effect.kind)))


def head_tests(side: Side) -> list[str]:
    """Return the places of the branches that decide on IND_DONE of kimage->head."""
    found: dict[str, None] = {}
    parts: list[tuple[Iterable[State], Term]] = []
    if side.post_load is not None:
        layout = side.post_load.context.layout
        head = side.post_load.context.field(side.post_load.entry, side.post_load.kimage, layout.head)
        parts.append((side.post_load.ran, head))
    if side.mk is not None:
        parts.append((side.mk.ran, side.mk.fields.head))
    if side.parts is not None:
        parts.append(([step.state for step in side.parts.before], side.parts.routine.head))
    for states, head in parts:
        for label, fact in _branches(states):
            if _decides(fact, head):
                found[side.places.name(int(label.rsplit(" ", 1)[1], 16))] = None
    return list(found)


def _branches(states: Iterable[State]) -> Facts:
    seen: dict[tuple[str, int], Formula] = {}
    for state in states:
        for label, fact in state.facts:
            if label.startswith("branch"):
                seen[(label, fact.hash())] = fact
    return tuple((label, fact) for (label, _), fact in seen.items())


def _decides(fact: Formula, head: Term) -> bool:
    """Return whether ``fact`` says that ``head`` has IND_DONE, or that it has not."""
    if [str(leaf.args[0]) for leaf in leaves(fact)] != [str(leaf.args[0]) for leaf in leaves(head)]:
        return False
    flag = done(head)
    for goal in (flag, Not(flag)):
        if decide((("branch", fact),), goal) and decide((("case", goal),), fact):
            return True
    return False


def icache_obligation(whole_path: WholePath) -> Obligation:
    """Return the obligation that a completed instruction-cache invalidation precedes every end."""
    goals = [term == ICACHE_INVALID for end in whole_path.ends for term in end.icache]
    facts: Facts = (whole_path.case,) if goals else ()
    sentence = (
        f"{whole_path.side.label}: where {whole_path.case[0]} the instruction cache is invalid at the entry"
    )
    return Obligation("diff-icache", sentence, facts, And(*goals) if goals else Not(And()))


def is_barrier(effect: Effect) -> bool:
    """Return whether the effect is a barrier's, which the next kernel cannot observe by itself."""
    return effect.kind in _BARRIERS
