"""One state for all that arrive at a cutpoint: what they agree on, and nothing of the rest."""

from __future__ import annotations

from collections.abc import Sequence

from verify.arm64.cache import Lines
from verify.arm64.state import GHOSTS, State
from verify.logic import Term, same, var
from verify.memory import Memory
from verify.obligation import Facts
from verify.symbolic.objects import Object, Objects


def join(states: Sequence[State], tag: str) -> State:
    """A state that each of ``states`` is an instance of; ``tag`` names what they differ in.

    Facts are those that all of them have. Accesses, events and the trace start anew: what is
    owed of them is owed of the arriving states.
    """
    first = states[0]
    registers = {n: _shared([s.registers[n] for s in states], f"{n}@{tag}") for n in first.registers}
    ghosts = {n: _shared([s.ghosts[n] for s in states], f"{n}@{tag}") for n in GHOSTS}
    memory = _memory([s.memory for s in states], tag)
    alone = len(states) == 1
    lines = first.lines if alone else Lines(f"L@{tag}")
    fetch = first.fetch if alone else Lines(f"F@{tag}")
    return State(registers, ghosts, memory, lines, _facts(states), fetch=fetch)


def _shared(terms: Sequence[Term], name: str) -> Term:
    first = terms[0]
    return first if all(same(first, term) for term in terms) else var(name, first.length)


def _facts(states: Sequence[State]) -> Facts:
    others = [{(label, fact.hash()) for label, fact in state.facts} for state in states[1:]]
    return tuple(
        (label, fact)
        for label, fact in states[0].facts
        if all((label, fact.hash()) in other for other in others)
    )


def _memory(memories: Sequence[Memory], tag: str) -> Memory:
    """The objects that all have at the same place, with the bytes that all agree on."""
    first = memories[0]
    if all(memory is first for memory in memories):
        return first
    known = [memory for memory in memories if isinstance(memory, Objects)]
    assert len(known) == len(memories) and isinstance(first, Objects)
    merged = Objects((), first.tag)
    for item in first.objects:
        if not all(any(_is_same(item, other) for other in memory.objects) for memory in known):
            continue
        merged = merged.adding(item)
        contents = [memory.stored_in(item.name) for memory in known]
        for offset in sorted({at for stored in contents for at in stored}):
            values = [stored.get(offset) for stored in contents]
            agreed = values[0]
            if agreed is None or not all(value is not None and same(agreed, value) for value in values):
                agreed = var(f"{item.name}{offset:+#x}@{tag}", 8)
            merged = merged.storing(item.name, offset, agreed)
    return merged


def _is_same(left: Object, right: Object) -> bool:
    """The same object at the same place."""
    if left.name != right.name or (left.base is None) != (right.base is None):
        return False
    return left.base is None or same(left.base, right.base)
