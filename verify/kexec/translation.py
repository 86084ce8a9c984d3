"""Obligations on translation: break before make, tables in effect before use, mapped addresses."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kexec_verify.arm64.state import (
    SCTLR_M,
    TRANSLATION_INVALIDATED,
    TRANSLATION_WRITTEN,
    Access,
    Event,
    synced,
)
from kexec_verify.kexec.routine import Routine
from kexec_verify.logic import And, Formula, Or, Term


def require_table_changes(routine: Routine, events: Iterable[Event]) -> None:
    """Require that TTBR1 is set to the zero page, or to the new table after an invalidation."""
    if not routine.variant.kimage:
        return
    for event in events:
        if event.name != "msr ttbr1_el1":
            continue
        (value,) = event.operands
        before = event.before
        broken = And(
            before.ghosts["translation"] == TRANSLATION_INVALIDATED,
            routine.selects_zero_page(before.registers["ttbr1_el1"]),
        )
        routine.require(
            "ttbr1-order",
            f"TTBR1_EL1 at {routine.code.where(event.at)} is set to the zero page, or to the kimage's table "
            "with the zero page in place and the TLB invalidated",
            before.facts[: event.known],
            Or(
                routine.selects_zero_page(value),
                And(broken, routine.selects_copy(value)),
            ),
            event.at,
        )


def require_translated(routine: Routine, access: Access) -> None:
    """Require that an access to the list, a source or a destination goes through the kimage's table."""
    if not routine.variant.kimage:
        return
    facts, before = access.before.facts[: access.known], access.before
    shown = f"the {access.kind} at {routine.code.where(access.at)}"
    routine.require(
        "ttbr1-in-effect",
        f"{shown} is translated by the copy of the linear map",
        facts,
        And(
            routine.selects_copy(before.registers["ttbr1_el1"]),
            before.ghosts["translation"] != TRANSLATION_WRITTEN,
        ),
        access.at,
    )
    routine.require(
        "context-before-access",
        f"{shown} comes after an ISB for every context change",
        facts,
        synced(before.ghosts),
        access.at,
    )


def require_mapped_access(
    routine: Routine, access: Access, what: str, *tables: Callable[[Term], Formula]
) -> None:
    """Require that an access is translated by a table that maps its address.

    :param what: the tables, in words.
    """
    regime = f"goes through {what}, with the MMU on and no change awaiting an ISB"
    routine.require(
        "mapped",
        f"the {access.kind} at {routine.code.where(access.at)} "
        + (regime if routine.variant.kimage else "is of a physical address: the MMU is off"),
        access.before.facts[: access.known],
        routine.in_context(access, *tables),
        access.at,
    )


MAINTENANCE = frozenset({"DC_CIVAC", "DC_CVAC", "DC_IVAC"})
"""Cache maintenance by address, by SLEIGH's names."""


def require_mapped(
    routine: Routine, events: Iterable[Event], what: str, mapped: Callable[[Term], Formula]
) -> None:
    """Require that cache maintenance by address is mapped: like a load it would fault otherwise.

    :param what: the addresses that ``mapped`` holds of, in words.
    """
    if not routine.variant.kimage:
        return
    for event in events:
        if event.name in MAINTENANCE:
            off = (event.before.registers["sctlr_el1"] & SCTLR_M) == 0
            in_copy = routine.in_context(event, routine.selects_copy)
            routine.require(
                "access-maintained",
                f"the cache maintenance at {routine.code.where(event.at)} goes to {what}, or the MMU is off",
                event.before.facts[: event.known],
                Or(off, And(in_copy, mapped(event.operands[0]))),
                event.at,
            )
