"""Proof obligations of arm64_relocate_new_kernel: T1, T2, T4 and T5.

The routine is cut at the head of its loop over the list and where that loop is left:
before the loop, one iteration of it, after it. T3 and the list's part of T4 are proved of
the list machine, in list_induction.
"""

from __future__ import annotations

from dataclasses import dataclass

from kexec_verify.arm64.execute import Step
from kexec_verify.arm64.lift import Code
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec import after_loop, before_loop, list_loop
from kexec_verify.kexec.abi_variant import AbiVariant
from kexec_verify.kexec.routine import Routine
from kexec_verify.logic import FALSE, TRUE
from kexec_verify.obligation import Obligation
from kexec_verify.symbolic.explore import Decide


@dataclass(frozen=True)
class Parts:
    """A routine whose every path was run.

    :param before: the paths from its entry to the loop over the list, or past it.
    :param exits: those from behind the loop to where control leaves; they are of any list.
    """

    routine: Routine
    before: list[Step]
    exits: list[Step]


def build(code: Code, variant: AbiVariant, decide: Decide, single_flags: bool = False) -> list[Obligation]:
    """Return every obligation on the routine in ``code``; parameters and errors are those of ``run``."""
    return run(code, variant, decide, single_flags).routine.obligations


def run(code: Code, variant: AbiVariant, decide: Decide, single_flags: bool = False) -> Parts:
    """Return the routine in ``code`` with every obligation on it.

    :param decide: filters invariants; it proves nothing.
    :param single_flags: assume that each word has exactly one flag.
    :raises UnsupportedError: for code that the proof does not cover.
    """
    if variant.unclear:
        raise UnsupportedError(variant.unclear)
    routine = Routine(code, variant)
    arrivals = before_loop.run(routine, decide)
    entering = [step for step in arrivals if step.then == variant.loop]
    skipping = [step for step in arrivals if step.then != variant.loop]
    iterations = list_loop.run(routine, entering, decide, single_flags)
    leaving = [step for step in iterations if step.then != variant.loop]
    exits = after_loop.run(routine, [*leaving, *skipping], decide)
    for address in code.addresses:
        reached = TRUE if address in routine.covered else FALSE
        routine.require("covered", f"{code.where(address)} lies on an explored path", (), reached, address)
    return Parts(routine, arrivals, exits)
