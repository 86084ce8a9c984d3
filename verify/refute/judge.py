"""Determine which properties a finished run breaks, and the first effect that breaks each.

Every rule is an obligation of verify.kexec evaluated for one run, or the statement of
specs.properties itself.
"""

from __future__ import annotations

from kexec_verify.arm64.lift import Code
from kexec_verify.kexec.abi_variant import AbiVariant
from kexec_verify.refute import ghost
from kexec_verify.refute.effects import Access, Mark, Run
from kexec_verify.refute.ending import Ending, is_copy
from kexec_verify.refute.lockstep import Lockstep, Numbered
from kexec_verify.refute.scenario import ENTRY_TTBR1, MASK, Scenario
from kexec_verify.refute.violation import Findings, Violation
from kexec_verify.specs.kimage import KimageLayout

ARBITRARY = frozenset({"reloc-step"})
"""Properties that are also claimed for lists that are not well-formed."""


class Judge:
    """Judges one run."""

    def __init__(self, code: Code, variant: AbiVariant, scenario: Scenario, run: Run):
        self.variant, self.scenario, self.run = variant, scenario, run
        self.findings = Findings(code)
        self.lockstep = Lockstep(variant, scenario, self.findings)
        self.ending = Ending(variant, scenario, run, self.findings, self.lockstep)

    def judge(self) -> dict[str, Violation]:
        """Return the broken properties by identifier."""
        phase, began = "before", 0
        accesses: list[Numbered] = []
        for number, effect in enumerate(self.run.log, 1):
            self.findings.index = number
            if isinstance(effect, Mark):
                inside = effect.at == self.variant.loop
                if phase == "loop":
                    self.lockstep.iteration_ends(began, accesses, left=not inside)
                elif phase == "before" and not inside:
                    self.lockstep.skipped(effect.at)
                if inside:
                    self.lockstep.over(effect.at)
                phase, began, accesses = "loop" if inside else "after", effect.at, []
            elif isinstance(effect, Access):
                self._access(effect, phase)
                if phase == "loop":
                    accesses.append((number, effect))
                elif effect.kind == "store":
                    self.lockstep.apply(effect)
            else:
                self.ending.event(effect, phase)
        if phase == "loop":
            self.lockstep.accesses(accesses)
        self.findings.index = len(self.run.log) + 1
        self.ending.end()
        found = self.findings.first
        if not self.scenario.well_formed:
            found = {claim: violation for claim, violation in found.items() if claim in ARBITRARY}
        return dict(sorted(found.items()))

    def _access(self, access: Access, phase: str) -> None:
        where = f"{access.address:#x}"
        broken = self.findings.broken
        if access.address % access.size:
            wanted = f"an address aligned to {access.size} bytes"
            broken("reloc-memory-safe", access.at, f"the {access.kind}", wanted, where)
        if phase == "loop":
            self._translated(access)
        elif phase == "after":
            what = f"a {access.kind} after the loop over the list"
            broken("reloc-memory-safe", access.at, what, "no access", where)
        elif self._kimage_field(access):
            started = access.context.ttbr1_el1 == ENTRY_TTBR1
            mapped = started or is_copy(self.variant, self.scenario, access.context)
            self._mapped(access, mapped, "a table that maps struct kimage")
        else:
            what = f"a {access.kind} before the loop over the list"
            broken("reloc-memory-safe", access.at, what, "reads of struct kimage only", where)

    def _mapped(self, access: Access, mapped: bool, what: str) -> None:
        """Require that an access goes through a table that maps it, with MMU on and no change awaiting an
        ISB.
        """
        context, broken = access.context, self.findings.broken
        shown = f"the {access.kind} of {access.address:#x}"
        if not ghost.cacheable(context.sctlr_el1):
            broken("reloc-effects", access.at, shown, "the MMU on", f"SCTLR_EL1 {context.sctlr_el1:#x}")
        elif context.unsynced:
            broken("reloc-effects", access.at, shown, "an ISB after every context change", "no ISB yet")
        elif not mapped:
            broken("reloc-effects", access.at, shown, f"{what} in TTBR1_EL1", f"{context.ttbr1_el1:#x}")

    def _kimage_field(self, access: Access) -> bool:
        scenario = self.scenario
        if not scenario.kimage or access.kind != "load":
            return False
        return (access.address - scenario.kimage_at) & MASK <= KimageLayout(scenario.arch).size - access.size

    def _translated(self, access: Access) -> None:
        """Require that an access in the loop, with the MMU on, goes through the kimage's table."""
        if not self.scenario.kimage:
            return
        context, what, broken = access.context, f"the {access.kind}", self.findings.broken
        if context.unsynced:
            broken("reloc-context-synced", access.at, what, "an ISB after every context change", "no ISB yet")
        self._mapped(access, is_copy(self.variant, self.scenario, context), "the copy of the linear map")
        if not is_copy(self.variant, self.scenario, context):
            wanted = f"TTBR1_EL1 for the table at {self.scenario.ttbr1:#x}"
            broken("reloc-break-before-make", access.at, what, wanted, f"{context.ttbr1_el1:#x}")
        elif context.translation == ghost.WRITTEN:
            state = ghost.TRANSLATION_STATES[context.translation]
            broken("reloc-break-before-make", access.at, what, "TTBR1_EL1 in effect", state)


def judge(code: Code, variant: AbiVariant, scenario: Scenario, run: Run) -> dict[str, Violation]:
    """Return the properties that ``run`` breaks, by identifier, each with the first effect that breaks it."""
    return Judge(code, variant, scenario, run).judge()
