"""Discharge obligations of two kernels: queries that differ only in names of addresses are sent once."""

from __future__ import annotations

from kexec_verify.diff.address_names import AddressNames
from kexec_verify.prove.discharge import Discharger
from kexec_verify.prove.queries import Queries


class SharedDischarger(Discharger):
    """Discharges the obligations of one kernel after the other.

    Renaming labels and variables one to one changes no answer; constants are left as they are.
    """

    def __init__(self, limit: float, queries: Queries | None = None):
        super().__init__(limit, queries=queries)
        self.places: AddressNames | None = None

    def _key(self, text: str) -> str:
        return text if self.places is None else self.places.relabelled(text)
