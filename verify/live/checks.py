"""The checks of one run, as they are made: formulas of the proofs first of all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from kexec_verify.live.formulas import Compiled, State, UntestableError
from kexec_verify.logic import Formula
from kexec_verify.report.live_model import CheckRecord, Seen

_SHOWN = 8  # values of one witness


@dataclass
class Checks:
    """Collects what was checked; each check is of one assumption, or of what the proofs conclude ("")."""

    records: list[CheckRecord] = field(default_factory=list)

    def add(self, assumption: str, what: str, holds: bool | None, value: str = "") -> None:
        """Add a check; ``holds`` is None where none is possible, and ``value`` then says why."""
        seen = Seen.UNTESTED if holds is None else Seen.HELD if holds else Seen.FALSE
        self.records.append(CheckRecord(assumption, what, seen, value))

    def formula(self, assumption: str, what: str, formula: Formula, states: Iterable[State]) -> None:
        """Add a check of a proof's own formula, which must hold in each of ``states``."""
        compiled, count, shown = Compiled(formula), 0, ""
        try:
            for state in states:
                count += 1
                if not compiled.holds(state):
                    self.add(assumption, what, False, _values(state))
                    return
                shown = shown or _values(state)
        except UntestableError as error:
            self.add(assumption, what, None, str(error))
            return
        if count == 0:
            self.add(assumption, what, None, "nothing that it speaks of is there")
            return
        many = f"; true of {count}" if count > 1 else ""
        self.add(assumption, what, True, f"{shown}{many}")


def _values(state: State) -> str:
    found = [f"{name} = {value:#x}" for name, value in state.seen.items()]
    further = "" if len(found) <= _SHOWN else f", and {len(found) - _SHOWN} more"
    return ", ".join(found[:_SHOWN]) + further
