"""A discharger for two kernels: a question that differs in the names of addresses alone is asked once."""

from __future__ import annotations

from collections.abc import Callable

from verify.diff.places import Places
from verify.obligation import Obligation
from verify.prove.discharge import Discharger


class SharedDischarger(Discharger):
    """Discharges the obligations of one kernel after the other.

    Renaming labels and variables one to one changes no answer; constants are left as they are.
    """

    def __init__(self, limit: float, progress: Callable[[Obligation], None] | None = None):
        super().__init__(limit, progress)
        self.places: Places | None = None

    def _key(self, text: str) -> str:
        return text if self.places is None else self.places.relabelled(text)
