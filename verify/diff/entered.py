"""Run the routine with a head that has IND_DONE, with which the kernel does not enter it."""

from __future__ import annotations

import capstone
from capstone import arm64
from kexec_verify.arm64.lift import SIZE, Code
from kexec_verify.diff.model import Entered, RunStep
from kexec_verify.diff.side import Side
from kexec_verify.errors import UnsupportedError
from kexec_verify.refute.effects import Access, Run
from kexec_verify.refute.lists import Plan, Word, build
from kexec_verify.refute.machine import Machine
from kexec_verify.refute.path import record
from kexec_verify.refute.scenario import Scenario
from kexec_verify.specs.kimage import IND_DONE

LIMIT = 4096
"""Instructions; a routine that has nothing to copy needs a few dozen."""


def enter(side: Side) -> Entered | None:
    """Return a run on the head of an image in place: only IND_DONE, as kimage_terminate leaves it.

    :returns: None for a routine whose form is not known or that holds an instruction without a model.
    """
    if side.variant is None:
        return None
    scenario = build(Plan("an image in place", Word(IND_DONE), ()), side.variant)
    code = side.code
    watch = frozenset({side.variant.loop, *side.variant.exits})
    try:
        run = Machine(code, watch).run(scenario, LIMIT)
        kept = record(code, watch, scenario, LIMIT, len(run.log))
        again = Machine(code, watch).run(scenario, LIMIT)
    except UnsupportedError:
        return None
    steps = tuple(
        RunStep(
            side.places.name(step.at),
            code.text(code.at(step.at)),
            {f"x{number}": f"{value:#x}" for number, value in step.changed},
        )
        for step in kept.path
    )
    last = run.log[-1] if run.log else None
    faults = run.end.kind == "fault" and isinstance(last, Access)
    if not faults or not isinstance(last, Access):
        steps = _whole(side, scenario, watch)
    replayed = (again.end, again.registers) == (run.end, run.registers)
    where = side.places.name(run.end.at)
    if not faults or not isinstance(last, Access):
        return Entered(
            side.label, f"{scenario.head:#x}", _ending(run, scenario), False, where, steps, replayed=replayed
        )
    register = _base(code, last.at)
    value = run.registers[int(register[1:])] if register.startswith("x") else 0
    set_at = next((step.where for step in reversed(steps[:-1]) if register in step.changed), "")
    return Entered(
        side.label,
        f"{scenario.head:#x}",
        f"the {last.kind} of {last.size} bytes at {last.address:#x} faults",
        True,
        where,
        steps,
        register,
        f"{value:#x}",
        set_at,
        replayed,
    )


def _whole(side: Side, scenario: Scenario, watch: frozenset[int]) -> tuple[RunStep, ...]:
    """Return the steps of a run to its end."""
    kept = record(side.code, watch, scenario, LIMIT, LIMIT)
    return tuple(
        RunStep(
            side.places.name(step.at),
            side.code.text(side.code.at(step.at)),
            {f"x{number}": f"{value:#x}" for number, value in step.changed},
        )
        for step in kept.path
    )


def _ending(run: Run, scenario: Scenario) -> str:
    accesses = [effect for effect in run.log if isinstance(effect, Access)]
    if run.end.kind == "br" and run.end.target == scenario.start:
        memory = f"{len(accesses)} loads and stores" if accesses else "no load and no store"
        return f"it branches to kimage->start, with {memory}"
    return f"it ends by {run.end.kind}"


def _base(code: Code, address: int) -> str:
    """Return the register that the access at ``address`` goes through."""
    decoder = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    decoder.detail = True
    offset = address - code.address
    for instruction in decoder.disasm(code.data[offset : offset + SIZE], address):
        for operand in instruction.operands:
            if operand.type == arm64.ARM64_OP_MEM:
                return str(instruction.reg_name(operand.mem.base))
    return ""
