"""Copy memory by CPYP, CPYM and CPYE (FEAT_MOPS; Arm ARM, C6.2.95).

The three instructions follow one another and name the same registers. How much each of them copies, and what
the registers hold between them, differs from CPU to CPU. So they have a meaning only as a sequence that is
executed from its first instruction to its last, and all that is known at its end is what memory holds, and
that the register with the number of bytes is 0.
"""

from __future__ import annotations

from dataclasses import replace

from kexec_verify.arm64 import system
from kexec_verify.arm64.lift import SIZE
from kexec_verify.arm64.mops import EPILOGUE, PROLOGUE, Part
from kexec_verify.arm64.state import FLAGS, Access, State
from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import const, constant, normal, var

MOST = 1 << 14
"""Bytes of one copy, at most: each of them is a term."""


def execute(state: State, done: Part, at: int) -> State:
    """Return the state after one of the three instructions, which is the last of the state's trace.

    :param at: its address.
    :raises UnsupportedError: the sequence was not entered at its first instruction, or the number of bytes is
        no constant, or too large.
    """
    before = state.trace[-2] if len(state.trace) > 1 else None
    if done.number != PROLOGUE and before != at - SIZE:
        raise UnsupportedError("a copy of memory that is entered in its middle", at)
    if done.number != EPILOGUE:
        return state
    count = constant(normal(state.registers[done.count]))
    if count is None or count > MOST:
        raise UnsupportedError("a copy of memory whose number of bytes is no constant, or too large", at)
    to, source = state.registers[done.to], state.registers[done.source]
    # All bytes are read first: where the ranges overlap, the CPU copies in an order that keeps them.
    data = []
    for offset in range(count):
        address = normal(source + offset)
        data.append(state.memory.load(address, 1))
        state = _with_access(state, Access("load", address, data[-1], at, len(state.facts), state, state.sp))
    for offset, value in enumerate(data):
        address = normal(to + offset)
        access = Access("store", address, value, at, len(state.facts), state, state.sp)
        state = _with_access(replace(state, memory=state.memory.store(address, value)), access)
        state = system.store(state, address, const(1))
    tag = f"{at:#x}, step {len(state.trace)}"
    unknown = {name: var(f"{name} after the copy at {tag}") for name in (done.to, done.source)}
    flags = {name: var(f"{name} after the copy at {tag}", 8) for name in FLAGS}
    return state.with_registers(**unknown, **flags, **{done.count: const(0)})


def _with_access(state: State, access: Access) -> State:
    return replace(state, accesses=(*state.accesses, access))
