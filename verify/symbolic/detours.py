"""Where an instruction is one of two: follow one way only, if the other soon comes to the same address.

A static key guards code that does little else than print. It comes back to where control would be without
it, with other values in some registers. There the state is one in which these registers hold anything: both
ways are instances of it. So what holds on its paths holds whichever way control has come.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from kexec_verify.arm64.lift import Code, successors
from kexec_verify.arm64.state import Event, State
from kexec_verify.logic import same, var

JOINED = "joined"
"""The kind of the end of a path that another path represents from there on; the target is the address."""
_KEPT = (*(f"x{number}" for number in range(19, 30)), "sp")
"""What a call keeps (AAPCS64, 6.1.1). A way that changes one of them does more than call."""
MOST_INSTRUCTIONS = 64  # of a detour


def comes_straight(code: Code, start: int, to: int, cuts: Collection[int]) -> bool:
    """Return whether control comes from ``start`` to ``to`` without a branch, and through none of ``cuts``.

    Callees are taken to return.
    """
    at = start
    for _ in range(MOST_INSTRUCTIONS):
        if at == to:
            return True
        if at not in code or at in cuts or at in code.either or at in code.unknown:
            return False
        following = successors(code.at(at))
        if len(following) != 1:
            return False
        (at,) = following
    return False


def representing(state: State, other: State, harmless: Callable[[Event], bool], tag: str) -> State | None:
    """Return *state* with anything in each register and ghost component that differs from *other*'s.

    What *other* has done beside that are loads, and calls that are ``harmless``. The caller owes the
    obligations on them.

    :param tag: of the new variables; no other may have it.
    :returns: None if the states differ in anything else, so that one cannot represent both.
    """
    alike = (
        state.memory is other.memory
        and state.lines is other.lines
        and state.fetch is other.fetch
        and all(same(state.registers[name], other.registers[name]) for name in _KEPT)
        and state.facts == other.facts[: len(state.facts)]
        and state.events == other.events[: len(state.events)]
        and all(harmless(event) for event in other.events[len(state.events) :])
        and all(access.kind == "load" for access in other.accesses[len(state.accesses) :])
    )
    if not alike:
        return None
    registers, ghosts, forgotten = dict(state.registers), dict(state.ghosts), list(state.forgotten)
    for values, others in ((registers, other.registers), (ghosts, other.ghosts)):
        for name, value in values.items():
            if not same(value, others[name]):
                values[name] = var(f"{name}@{tag}", value.length)
                forgotten.append((f"{name}@{tag}", value))
    return replace(state, registers=registers, ghosts=ghosts, forgotten=tuple(forgotten))
