"""The tables that machine_kexec lets TTBR0 name, the T0SZ that fits them, and the order of changes (T6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kexec_verify.arm64.state import TRANSLATION_INVALIDATED, Event, State
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.context import KexecContext
from kexec_verify.logic import And, Formula, Or, Term, const
from kexec_verify.obligation import Obligation
from kexec_verify.specs.address_map import AddressMap, is_table, t0sz_is
from kexec_verify.specs.machine_kexec import Fields


@dataclass(frozen=True)
class SelectedTables:
    """The part of machine_kexec's proof that is about the tables of the lower half of the addresses.

    :param entry: the state in which machine_kexec is entered.
    :param fields: of struct kimage, as they are then.
    :param where: names an address of machine_kexec.
    """

    context: KexecContext
    map: AddressMap
    entry: State
    fields: Fields
    where: Callable[[int], str]

    def idmap_t0sz(self) -> Term:
        """Return T0SZ for the idmap: before 6.2 a global's value, from then on a constant."""
        if "idmap_t0sz" in self.context.globals:
            return self.context.word(self.entry, "idmap_t0sz")
        return const(16)

    def may_select(self, ttbr: Term) -> Formula:
        """TTBR0 may name reserved_pg_dir, the idmap, or the kimage's own table."""
        known, folds = self.context.globals, self.map.folds_ttbr
        images = [known[name] for name in ("reserved_pg_dir", "idmap_pg_dir") if name in known]
        tables = [self.map.image_to_phys(at) for at in images]
        return Or(self.is_own(ttbr), *(is_table(ttbr, table, folds) for table in tables))

    def is_own(self, ttbr: Term) -> Formula:
        """``ttbr`` is kimage->arch.ttbr0, which trans_pgd_idmap_page has encoded for a TTBR."""
        return is_table(ttbr, self.fields.ttbr0, folds=False)

    def is_idmap(self, ttbr: Term) -> Formula:
        """``ttbr`` names idmap_pg_dir.

        :raises UnsupportedError: if that was not found.
        """
        return is_table(ttbr, self._global("idmap_pg_dir"), self.map.folds_ttbr)

    def on_idmap(self, state: State) -> Formula:
        """TTBR0 names the idmap and TCR.T0SZ fits it."""
        return And(
            self.is_idmap(state.registers["ttbr0_el1"]),
            t0sz_is(state.registers["tcr_el1"], self.entry.registers["tcr_el1"], self.idmap_t0sz()),
        )

    def on_own(self, state: State) -> Formula:
        """TTBR0 names the kimage's own table and TCR.T0SZ fits it."""
        return And(
            self.is_own(state.registers["ttbr0_el1"]),
            t0sz_is(state.registers["tcr_el1"], self.entry.registers["tcr_el1"], self.fields.t0sz),
        )

    def ordered(self, event: Event) -> Obligation:
        """Require that TTBR0 names the empty table first, and that the TLB holds no old entries when both
        change.

        :raises UnsupportedError: if reserved_pg_dir was not found.
        """
        before, known = event.before, event.before.facts[: event.known]
        reserved, folds = self._global("reserved_pg_dir"), self.map.folds_ttbr
        empty = is_table(before.registers["ttbr0_el1"], reserved, folds)
        # TCR must be in effect when TTBR0 names a table that it is for (Arm ARM, D8.16).
        in_effect = And(before.ghosts["tcr_unsynced"] == 0, before.ghosts["ttbr0_unsynced"] == 0)
        emptied = And(empty, before.ghosts["translation"] == TRANSLATION_INVALIDATED, in_effect)
        goal = emptied
        if event.name == "msr ttbr0_el1":
            goal = Or(is_table(event.operands[0], reserved, folds), emptied)
        changed = event.name.removeprefix("msr ")
        sentence = (
            f"at {self.where(event.at)} {changed} changes while TTBR0 names reserved_pg_dir, the TLB has "
            "been invalidated and no earlier change awaits an ISB, or it is set so"
        )
        return Obligation("mk-translation-order", sentence, known, goal, event.at, subject=event)

    def _global(self, name: str) -> Term:
        if name not in self.context.globals:
            raise UnsupportedError(f"kernel whose {name} was not found")
        return self.map.image_to_phys(self.context.globals[name])
