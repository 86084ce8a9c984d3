"""Compare the engine's meaning of system instructions with the table of the architecture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kexec_verify.arm64.execute import Exit, Step, execute
from kexec_verify.arm64.legality import lowest_el
from kexec_verify.arm64.lift import SIZE, decode
from kexec_verify.arm64.state import SYSTEM, State
from kexec_verify.arm64.system import MEANING, nothing
from kexec_verify.cosim.machine import CODE
from kexec_verify.cosim.meaning import REGISTERS, unknown_state
from kexec_verify.cosim.system_table import Expected, expected
from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import Function, Term, const, same

_LEAVES = {"AArch64.SoftwareBreakpoint": "brk", "AArch64.ExceptionReturn": "eret"}
_SIGNED = Function("signed")

SPACE = 1 << 17
"""Encodings of the class ``System`` without Rt: L, op0, op1, CRn, CRm, op2."""


@dataclass
class Swept:
    """Results for a part of the system instruction space.

    :param refused: encodings without a meaning.
    :param agreeing: those that do what the table says, by the name there.
    """

    refused: int = 0
    agreeing: dict[str, int] = field(default_factory=dict)
    mismatches: list[str] = field(default_factory=list)


def encoding(index: int) -> int:
    """Return the system instruction number ``index`` of SPACE; Rt is 31 where the class has none."""
    return 0xD500_0000 | index << 5 | (31 if index >> 14 & 0b11 == 0 else 5)


def disagreement(word: int, address: int = CODE) -> str | None:
    """Return what is wrong with the engine's meaning of ``word`` by the table; None if nothing is.

    :raises UnsupportedError: if the engine gives it no meaning.
    """
    before = unknown_state()
    wanted = expected(word)
    if wanted is not None and wanted.authenticates:
        before = before.with_registers(x30=_SIGNED(before.registers["x30"], before.sp))
    steps = list(execute(decode(word, address), before, max(1, lowest_el(word))))
    shown = f"{word:#010x} {decode(word, address).text}"
    if wanted is None and any(_without_model(event.name) for step in steps for event in step.state.events):
        raise UnsupportedError(f"an effect without a model of what it does ({shown})", address)
    if wanted is None:
        return f"{shown}: it has a meaning, but the table has no such instruction"
    if len(steps) != 1:
        return f"{shown}: expected one outcome, found {len(steps)}"
    found = _difference(before, steps[0], wanted, address)
    return f"{shown} ({wanted.name}): {found}" if found else None


def _without_model(event: str) -> bool:
    """Return whether the effect is only known to happen, or is a hint that changes nothing."""
    modelled = event in MEANING or event.removeprefix("msr ") in SYSTEM
    return not modelled or MEANING.get(event) is nothing


def _difference(before: State, step: Step, wanted: Expected, address: int) -> str | None:
    after = step.state
    leaves = _LEAVES.get(wanted.name)
    if leaves is not None:
        if not isinstance(step.then, Exit) or step.then.kind != leaves:
            return f"expected to leave by {leaves}"
    elif step.then != address + SIZE:
        return f"expected to go on at {address + SIZE:#x}, found {step.then}"
    if after.accesses or after.memory is not before.memory:
        return "expected no access of memory"
    values = _expected_registers(before, wanted)
    for name in (*REGISTERS, *SYSTEM):
        got = after.registers[name]
        if name in wanted.clobbers:
            if same(got, before.registers[name]):
                return f"expected {name} to be unknown"
        elif not same(got, values.get(name, before.registers[name])):
            return f"expected {name} = {values.get(name, before.registers[name])}, found {got}"
    operands = tuple(_operand(before, operand) for operand in wanted.operands)
    if wanted.mask is not None:
        operands = (values[wanted.target],)
    # Hints are events only so that a run can be compared with them; the table has none for them.
    events = [(e.name, e.operands) for e in after.events if MEANING.get(e.name) is not nothing]
    if not wanted.event:
        return f"expected no event, found {events[0][0]}" if events else None
    if [name for name, _ in events] != [wanted.event]:
        return f"expected the event {wanted.event}, found {[name for name, _ in events]}"
    given = events[0][1]
    if len(given) != len(operands) or not all(same(a, b) for a, b in zip(given, operands, strict=True)):
        return f"expected operands {operands}, found {given}"
    return None


def _operand(before: State, operand: tuple[int, int] | str) -> Term:
    if isinstance(operand, tuple):
        return const(*operand)
    return const(0) if operand == "xzr" else before.registers[operand]


def _expected_registers(before: State, wanted: Expected) -> dict[str, Term]:
    if wanted.signs:
        return {"x30": _SIGNED(before.registers["x30"], before.sp)}
    if wanted.authenticates:
        return {"x30": unknown_state().registers["x30"]}
    if wanted.mask is not None:
        value = before.registers[wanted.target]
        return {wanted.target: value | wanted.mask if wanted.sets else value & ~const(wanted.mask)}
    if not wanted.target or wanted.target == "xzr":
        return {}
    return {wanted.target: _operand(before, wanted.source)}


def sweep(indices: Iterable[int]) -> Swept:
    """Check system instructions by their number in SPACE: none may have a meaning that the table lacks."""
    swept = Swept()
    for index in indices:
        word = encoding(index)
        try:
            found = disagreement(word)
        except UnsupportedError:
            swept.refused += 1
            continue
        wanted = expected(word)
        if found is None and wanted is not None:
            swept.agreeing[wanted.name] = swept.agreeing.get(wanted.name, 0) + 1
        else:
            swept.mismatches.append(str(found))
        decode.cache_clear()
    return swept
