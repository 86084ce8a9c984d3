"""Discharge obligations of two kernels: queries that differ only in names of addresses are sent once."""

from __future__ import annotations

from collections.abc import Callable

from kexec_verify.diff.address_names import AddressNames
from kexec_verify.obligation import Obligation
from kexec_verify.prove.discharge import Discharger


class SharedDischarger(Discharger):
    """Discharges the obligations of one kernel after the other.

    Renaming labels and variables one to one changes no answer; constants are left as they are.
    """

    def __init__(self, limit: float, progress: Callable[[Obligation], None] | None = None):
        super().__init__(limit, progress)
        self.places: AddressNames | None = None

    def _key(self, text: str) -> str:
        return text if self.places is None else self.places.relabelled(text)
