"""The routine under proof: its arguments as terms, the assumptions about them, its proof obligations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kexec_verify.arm64.cache import CTR_EL0
from kexec_verify.arm64.execute import Exit, Step
from kexec_verify.arm64.lift import Code
from kexec_verify.arm64.state import SCTLR_C, SCTLR_M, Access, Event, State, synced
from kexec_verify.kexec.abi_variant import ENTRY_MEMORY, AbiVariant, entry_state
from kexec_verify.kexec.effects import effect_obligations
from kexec_verify.logic import (
    And,
    Formula,
    Function,
    Or,
    Term,
    aligned,
    const,
    ule,
)
from kexec_verify.obligation import Facts, Obligation
from kexec_verify.specs import boot_protocol, effects
from kexec_verify.specs.address_map import is_table, same_table, ttbr1_offset
from kexec_verify.specs.relocate_kernel import ListMachine
from kexec_verify.symbolic.explore import Decide, Explorer

PREFIX = "reloc-"
_MMU_ON = SCTLR_M | SCTLR_C


@dataclass
class Routine:
    """One routine: code, ABI variant, and its arguments as terms.

    ``head``, ``start``, ``dtb`` and ``phys_offset`` are 64-bit terms over the state at
    entry, as are ``ttbr1``, ``zero_page`` and ``el2_vectors`` where the variant has them.
    """

    code: Code
    variant: AbiVariant
    obligations: list[Obligation] = field(default_factory=list)
    covered: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.entry = entry_state()
        x0, x1, x2 = (self.entry.registers[name] for name in ("x0", "x1", "x2"))
        layout = self.variant.layout
        if layout is None:
            self.head, self.start, self.dtb = x0, x1, x2
            self.phys_offset = self.ttbr1 = self.zero_page = self.el2_vectors = const(0)
            return

        def kimage(offset: int) -> Term:
            return Function(ENTRY_MEMORY)(x0 + offset)

        self.head, self.start, self.dtb = kimage(layout.head), kimage(layout.start), kimage(layout.dtb_mem)
        self.phys_offset, self.el2_vectors = kimage(layout.phys_offset), kimage(layout.el2_vectors)
        self.ttbr1, self.zero_page = kimage(layout.ttbr1), kimage(layout.zero_page)

    @property
    def stops(self) -> frozenset[int]:
        """Return the cutpoints: the head of the loop over the list, and the addresses where it is left."""
        return frozenset({self.variant.loop, *self.variant.exits})

    @property
    def roles(self) -> frozenset[str]:
        """Return the registers that hold the list machine's state."""
        return frozenset({self.variant.entry, self.variant.ptr, self.variant.dest})

    def assumptions(self) -> Facts:
        """Return facts about the state in which the routine is entered."""
        sctlr = self.entry.registers["sctlr_el1"]
        common: Facts = (
            ("daif-masked", boot_protocol.masked(self.entry.registers["daif"])),
            ("ctr-legal", And(ule(const(2, 4), CTR_EL0[19:16]), ule(CTR_EL0[19:16], const(9, 4)))),
        )
        layout = self.variant.layout
        if layout is None:
            return (*common, ("mmu-off", boot_protocol.mmu_off(sctlr)))
        x0, page = self.entry.registers["x0"], self.variant.page_size
        return (
            *common,
            ("mmu-on", (sctlr & _MMU_ON) == _MMU_ON),
            ("context-synced", synced(self.entry.ghosts)),
            ("kimage-aligned", And(aligned(x0, 8), ule(x0, const(-layout.size)))),
            ("phys-offset-aligned", aligned(self.phys_offset, page)),
        )

    def machine(self, state: State) -> ListMachine:
        """Return the list machine's state that a state at the loop's head represents."""
        variant, registers = self.variant, state.registers
        return ListMachine(
            registers[variant.entry],
            registers[variant.ptr],
            registers[variant.dest],
            state.memory,
            variant.page_size,
            self.phys_offset,
        )

    def explorer(self, stops: frozenset[int], decide: Decide | None) -> Explorer:
        """Return an explorer of the routine's code."""
        return Explorer(self.code, stops, decide, (self.variant.page_size,), PREFIX)

    def collect(self, explorer: Explorer) -> None:
        """Take over an explorer's obligations on the loops it crossed, and what it covered."""
        self.obligations += explorer.obligations
        self.covered |= explorer.covered

    def require(
        self,
        name: str,
        sentence: str,
        hypotheses: Facts,
        goal: Formula,
        at: int | None = None,
        path: tuple[int, ...] = (),
    ) -> None:
        """Add an obligation."""
        self.obligations.append(Obligation(PREFIX + name, sentence, hypotheses, goal, at, path))

    def require_access(self, access: Access, what: str, allowed: Formula) -> None:
        """Require that a load or store is aligned and allowed; ``what`` says in words what it must do."""
        facts = access.before.facts[: access.known]
        shown = f"the {access.kind} at {self.code.where(access.at)}"
        self.require("access-region", f"{shown} {what}", facts, allowed, access.at)
        self.require("access-aligned", f"{shown} is aligned", facts, aligned(access.address, 8), access.at)

    def selects_zero_page(self, ttbr: Term) -> Formula:
        """``ttbr`` names the zero page, as a table that maps nothing."""
        return is_table(ttbr, self.zero_page, self.variant.folds_ttbr)

    def selects_copy(self, ttbr: Term) -> Formula:
        """``ttbr`` names the kimage's copy of the linear map."""
        tcr = self.entry.registers["tcr_el1"]
        offset = ttbr1_offset(tcr) if self.variant.offsets_ttbr1 else const(0)
        return is_table(ttbr, self.ttbr1, self.variant.folds_ttbr, offset)

    def is_off(self, sctlr: Term) -> Formula:
        """``sctlr`` is SCTLR_EL1 with the MMU off: the kernel's value, or the one at entry."""
        if self.variant.kimage:
            return boot_protocol.sctlr_is_off(sctlr)
        return sctlr == self.entry.registers["sctlr_el1"]

    def rules(self) -> effects.Rules:
        """Return the effects that the routine may have outside of its loop over the list."""
        if not self.variant.kimage:
            return effects.RELOCATE_WITH_MMU_OFF

        def selects(ttbr: Term) -> Formula:
            return Or(self.selects_zero_page(ttbr), self.selects_copy(ttbr))

        return effects.relocate_with_mmu_on(selects, self.is_off, self.start, self.dtb)

    def require_effects(self, events: Iterable[Event], further: effects.Rules = ()) -> None:
        """Require that each system instruction is one that the routine may execute.

        :param further: rules in addition to those that always hold.
        """
        rules = (*self.rules(), *further)
        entry = self.entry.registers
        self.obligations += effect_obligations(f"{PREFIX}effect", self.code.where, events, rules, entry)

    def in_context(self, access: Access | Event, *tables: Callable[[Term], Formula]) -> Formula:
        """Just before ``access`` the MMU is on, TTBR1 names one of ``tables``, and no change awaits an ISB.

        A routine that runs with the MMU off accesses physical addresses.
        """
        before = access.before
        sctlr = before.registers["sctlr_el1"]
        if not self.variant.kimage:
            return (sctlr & SCTLR_M) == 0
        ttbr1 = before.registers["ttbr1_el1"]
        named = Or(*(names(ttbr1) for names in tables))
        return And((sctlr & _MMU_ON) == _MMU_ON, named, synced(before.ghosts))

    def is_running_map(self, ttbr: Term) -> Formula:
        """``ttbr`` names the table that the running kernel's linear map is in."""
        return same_table(ttbr, self.entry.registers["ttbr1_el1"])


def ends_undefined(step: Step) -> bool:
    """Return whether the path ends at an undefined instruction, which no rule allows."""
    return isinstance(step.then, Exit) and step.then.kind == "undefined"
