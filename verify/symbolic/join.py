"""Join the states that arrive at a cutpoint: keep what they agree on, the rest is unknown."""

from __future__ import annotations

from collections.abc import Sequence

from kexec_verify.arm64.cache import Lines
from kexec_verify.arm64.state import GHOSTS, State
from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import Term, same, var
from kexec_verify.memory import Memory
from kexec_verify.obligation import Facts
from kexec_verify.symbolic.objects import Object, Objects


def join(states: Sequence[State], tag: str) -> State:
    """Return a state of which each of ``states`` is an instance; ``tag`` names what they differ in.

    Facts are those that all of them have. Accesses, events and the trace start empty:
    obligations about them are made for the arriving states.
    """
    first = states[0]
    registers = {n: _shared([s.registers[n] for s in states], f"{n}@{tag}") for n in first.registers}
    ghosts = {n: _shared([s.ghosts[n] for s in states], f"{n}@{tag}") for n in GHOSTS}
    memory = _memory([s.memory for s in states], tag)
    lines = first.lines if all(s.lines is first.lines for s in states) else Lines(f"L@{tag}")
    fetch = first.fetch if all(s.fetch is first.fetch for s in states) else Lines(f"F@{tag}")
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


def _one(left: Object, right: Object) -> bool:
    """Return whether the two are the same object."""
    if (left.name, left.low, left.high) != (right.name, right.low, right.high):
        return False
    if left.base is None or right.base is None:
        return left.base is right.base
    return same(left.base, right.base)


def _memory(memories: Sequence[Memory], tag: str) -> Memory:
    """Return the objects that all have at the same address, with the bytes that all agree on."""
    first = memories[0]
    if all(memory is first for memory in memories):
        return first
    known_objects = [memory for memory in memories if isinstance(memory, Objects)]
    if len(known_objects) < len(memories) or len({memory.tag for memory in known_objects}) > 1:
        raise UnsupportedError("paths that join with memory that is not of the same objects")
    merged = known_objects[0]
    shared = [i for i in merged.objects if all(any(_one(i, o) for o in m.objects) for m in known_objects)]
    merged = merged.only({item.name for item in shared})
    for item in merged.objects:
        contents = [memory.stored_in(item.name) for memory in known_objects]
        lost = [end for memory in known_objects if (end := memory.lost(item.name)) is not None]
        if lost:
            # Bytes that one path popped and did not store again may be read on no path.
            shared_bytes = set(contents[0]).intersection(*contents[1:])
            merged = merged.losing(item.name, max(lost), shared_bytes)
            contents = [
                {at: byte for at, byte in stored.items() if at in shared_bytes or at >= max(lost)}
                for stored in contents
            ]
        for offset in sorted({at for stored in contents for at in stored}):
            values = [stored.get(offset) for stored in contents]
            known = [value for value in values if value is not None]
            agreed = len(known) == len(values) and all(same(known[0], value) for value in known)
            if not agreed:
                merged = merged.storing(item.name, offset, var(f"{item.name}{offset:+#x}@{tag}", 8))
    return merged
