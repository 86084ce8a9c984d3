"""Require of each system instruction that its function may execute it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kexec_verify.arm64.execute import Step
from kexec_verify.arm64.state import Event, State
from kexec_verify.arm64.system import FREE, MEANING
from kexec_verify.errors import LimitError, UnsupportedError
from kexec_verify.logic import FALSE, Formula
from kexec_verify.obligation import Obligation
from kexec_verify.specs.effects import Registers, Rules
from kexec_verify.symbolic.explore import Explorer
from kexec_verify.symbolic.segments import Segment

WRITE = "msr "
"""What the name of a write of a system register begins with."""


def is_effect(event: Event) -> bool:
    """Return whether a rule must allow the event; calls have contracts, barriers and hints are free."""
    return event.name not in FREE and event.name != "warn" and not event.name.startswith("call ")


def allowed(event: Event, rules: Rules, entry: Registers, before: Registers) -> tuple[str, Formula]:
    """Return what a rule allows of ``event``, in words and as a formula; FALSE if no rule matches.

    :raises UnsupportedError: if a rule allows an effect whose meaning is not modelled: the state behind it
        would be that before it.
    """
    found = [rule for rule in rules if rule.effect == event.name]
    if not found:
        return "", FALSE
    if event.name not in MEANING and not event.name.startswith(WRITE):
        raise UnsupportedError(f"{shown(event)} is allowed, and its meaning is not modelled", event.at)
    return found[0].sentence, found[0].holds(entry, before, event.operands)


def effect_obligations(
    name: str,
    where: Callable[[int], str],
    events: Iterable[Event],
    rules: Rules,
    entry: Registers,
    values: Callable[[Event], Registers] = lambda event: event.before.registers,
) -> list[Obligation]:
    """Return one obligation for each effect: a rule allows it.

    :param name: of the obligations.
    :param entry: registers at the function's entry.
    :param values: the registers that rules are about, just before an event.
    """
    found = []
    for event in events:
        if not is_effect(event):
            continue
        sentence, goal = allowed(event, rules, entry, values(event))
        what = f"{shown(event)} at {where(event.at)} {sentence or 'is an effect that the function may have'}"
        fault = f"{shown(event)} is executed, which no rule of specs/effects.py allows here"
        if sentence:
            fault = f"{shown(event)} does other than its rule in specs/effects.py allows: it {sentence}"
        facts = () if goal.is_true() else event.before.facts[: event.known]
        found.append(Obligation(name, what, facts, goal, event.at, fault=fault, subject=event))
    return found


def explored(
    explorer: Explorer,
    start: State,
    at: int,
    segments: list[Segment],
    require: Callable[[State], None],
    bound: tuple[tuple[State, str], ...] = (),
) -> list[Step]:
    """Run every path from ``start`` and keep it in ``segments``.

    If a path cannot be followed to its end, what it has done before still happens. So the effects up to
    there, and those of the paths before it, are required nevertheless.

    :param require: adds the obligations on the effects of a path.
    :raises UnsupportedError: as the explorer does, as well as LimitError.
    """
    try:
        ends = explorer.run(start, at)
    except (UnsupportedError, LimitError):
        stopped = () if explorer.current is None else (explorer.current,)
        segments.append(Segment(at, start, stopped, bound))
        for segment in segments:
            for step in segment.ends:
                require(step.state)
        raise
    segments.append(Segment(at, start, tuple(ends), bound))
    return ends


def shown(event: Event) -> str:
    """Return the event as a reader knows it: ``msr vbar_el2``, ``tlbi vmalle1``, ``hvc``."""
    if event.name == "CallHyperVisor":
        return "hvc"
    if event.name[:3] in ("DC_", "IC_", "AT_") or event.name.startswith("TLBI_"):
        return event.name.replace("_", " ", 1).lower()
    return event.name
