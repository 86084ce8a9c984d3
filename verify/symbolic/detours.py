"""Where an instruction is one of two: follow one way only, if the other soon comes to the same address.

A static key guards code that does little else than print. It comes back to where control would be without
it, with other values in some registers. There the state is one in which these registers hold anything: both
ways are instances of it. So what holds on its paths holds whichever way control has come.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from kexec_verify.arm64.lift import SIZE, Code, Instruction, successors
from kexec_verify.arm64.state import Event, State
from kexec_verify.logic import same, var

JOINED = "joined"
"""The kind of the end of a path that another path represents from there on; the target is the address."""
MOST_INSTRUCTIONS = 128  # of a detour
_KEPT = tuple(f"x{number}" for number in range(19, 30))
"""What a call keeps (AAPCS64, 6.1.1), beside SP."""


def comes_back(code: Code, start: int, to: int, cuts: Collection[int]) -> bool:
    """Return whether every way from ``start`` comes to ``to``, and none passes one of ``cuts`` before.

    Callees are taken to return. There is no cycle on the way, for each has one of ``cuts``.
    """
    seen: set[int] = set()
    todo = [start]
    while todo:
        at = todo.pop()
        if at == to or at in seen:
            continue
        seen.add(at)
        if at not in code or at in cuts or at in code.either or at in code.unknown:
            return False
        following = successors(code.at(at))
        if not following or len(seen) > MOST_INSTRUCTIONS:
            return False
        todo += following
    return True


def representing(
    code: Code, to: int, state: State, others: Sequence[State], harmless: Callable[[Event], bool], tag: str
) -> State | None:
    """Return *state* with anything in each register and ghost component that differs from one of *others*.

    All are states at the address ``to``. What the others have done beside *state* are loads, and calls that
    are ``harmless``. The caller owes the obligations on them.

    :param tag: of the new variables; no other may have it.
    :returns: None if the states differ in anything else, so that one cannot represent all, or in a register
        that a call keeps and that is used behind ``to``: then it is worthwhile to tell them apart.
    """
    if not all(_alike(state, other, harmless) for other in others):
        return None
    registers, ghosts, forgotten = dict(state.registers), dict(state.ghosts), list(state.forgotten)
    for values, kind in ((registers, "registers"), (ghosts, "ghosts")):
        for name, value in values.items():
            if all(same(value, getattr(other, kind)[name]) for other in others):
                continue
            if name in _KEPT and is_live(code, to, name):
                return None
            values[name] = var(f"{name}@{tag}", value.length)
            forgotten.append((f"{name}@{tag}", value))
    return replace(state, registers=registers, ghosts=ghosts, forgotten=tuple(forgotten))


def _alike(state: State, other: State, harmless: Callable[[Event], bool]) -> bool:
    return (
        state.memory is other.memory
        and state.lines is other.lines
        and state.fetch is other.fetch
        and same(state.sp, other.sp)
        and state.facts == other.facts[: len(state.facts)]
        and state.events == other.events[: len(state.events)]
        and all(harmless(event) for event in other.events[len(state.events) :])
        and all(access.kind == "load" for access in other.accesses[len(state.accesses) :])
    )


def is_live(code: Code, start: int, name: str) -> bool:
    """Return whether a way from ``start`` may read the general register before it is written.

    :param name: of a register that callees keep and take no argument in. Who the function returns to, or
        branches to, may read it.
    """
    seen: set[int] = set()
    todo = [start]
    while todo:
        at = todo.pop()
        if at in seen:
            continue
        seen.add(at)
        if at not in code:
            return True
        for instruction in code.ways(at):
            read, written = _uses(instruction)
            following = successors(instruction)
            ends = "RETURN" in instruction.opcodes or "BRANCHIND" in instruction.opcodes
            if name in read or (ends and name not in written):
                return True
            if name not in written and instruction.call_target not in code.final:
                todo += [*following, *([at + SIZE] if at in code.warnings else [])]
    return False


def _uses(instruction: Instruction) -> tuple[set[str], set[str]]:
    """Return the general registers that it reads, and those that it writes, by their 64-bit names."""
    read: set[str] = set()
    written: set[str] = set()
    for operation in instruction.operations:
        for found, nodes in ((read, operation.inputs), (written, [operation.output])):
            for node in nodes:
                if node is not None and node.space.name == "register":
                    name = node.getRegisterName()
                    found.add(f"x{name[1:]}" if name[:1] == "w" else name)
    return read, written
