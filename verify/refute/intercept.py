"""Recognise instructions that Unicorn must not execute: system-register accesses, and those beyond p-code."""

from __future__ import annotations

from collections.abc import Sequence

from kexec_verify.arm64.execute import UNPRIVILEGED
from kexec_verify.arm64.legality import unprivileged
from kexec_verify.arm64.lift import Instruction
from kexec_verify.arm64.lift import system_register as system_register_of

_SYSTEM = ("sctlr_el1", "ttbr0_el1", "ttbr1_el1", "tcr_el1", "ctr_el0", "daif")

TRAPS = ("SoftwareBreakpoint", "UndefinedInstructionException")
"""Instructions at which Unicorn raises an exception, as the CPU does."""


def system_register(instruction: Instruction, names: Sequence[str] = _SYSTEM) -> tuple[str, bool] | None:
    """Return the system register, one of ``names``, that an MSR (True) or MRS (False) names."""
    for operation in instruction.operations:
        output = operation.output
        if output is not None and output.space.name == "register" and output.getRegisterName() in names:
            return output.getRegisterName(), True
        for operand in operation.inputs:
            if operand.space.name == "register" and operand.getRegisterName() in names:
                return operand.getRegisterName(), False
    return None


def effect(instruction: Instruction) -> str | None:
    """Return the effect that an instruction without rules in the ghost state has; None if it has none.

    The name is that of specs.effects: of an MSR, of an undefined instruction, or SLEIGH's.
    """
    if not instruction.is_system:
        return UNPRIVILEGED if unprivileged(instruction.word) else None
    for operation in instruction.operations:
        written = None if operation.output is None else system_register_of(operation.output)
        if written is not None and operation.opcode.name != "CALLOTHER":
            return f"msr {written}"
    return user_operation(instruction)


def user_operation(instruction: Instruction) -> str | None:
    """Return SLEIGH's name for what the instruction does beyond p-code."""
    for operation in instruction.operations:
        if operation.opcode.name == "CALLOTHER":
            return str(operation.inputs[0].getUserDefinedOpName())
    return None
