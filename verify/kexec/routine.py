"""The routine under proof: its arguments as terms, what is assumed of them, what is owed."""

from __future__ import annotations

from dataclasses import dataclass, field

from specs import boot_protocol
from specs.relocate_kernel import ListMachine
from verify.arm64.cache import CTR_EL0
from verify.arm64.lift import Code
from verify.arm64.state import SCTLR_C, SCTLR_M, Access, State
from verify.kexec.form import ENTRY_MEMORY, Form, entry_state
from verify.logic import (
    And,
    Formula,
    Function,
    Or,
    Term,
    aligned,
    const,
    shift_right,
    ule,
)
from verify.obligation import Facts, Obligation
from verify.symbolic.explore import Decide, Explorer

PREFIX = "reloc-"
_MMU_ON = SCTLR_M | SCTLR_C


@dataclass
class Routine:
    """One routine: code, form, and the terms that its arguments are.

    ``head``, ``start``, ``dtb`` and ``phys_offset`` are 64-bit terms over the state at
    entry, as are ``ttbr1``, ``zero_page`` and ``el2_vectors`` where the form has them.
    """

    code: Code
    form: Form
    obligations: list[Obligation] = field(default_factory=list)
    covered: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.entry = entry_state()
        x0, x1, x2 = (self.entry.registers[name] for name in ("x0", "x1", "x2"))
        layout = self.form.layout
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
        """The cutpoints: the head of the loop over the list, and where that loop is left to."""
        return frozenset({self.form.loop, *self.form.exits})

    @property
    def roles(self) -> frozenset[str]:
        """The registers that hold the list machine's state."""
        return frozenset({self.form.entry, self.form.ptr, self.form.dest})

    def assumptions(self) -> Facts:
        """Facts about the state in which the routine is entered."""
        sctlr = self.entry.registers["sctlr_el1"]
        common: Facts = (
            ("daif-masked", boot_protocol.masked(self.entry.registers["daif"])),
            ("ctr-legal", And(ule(const(2, 4), CTR_EL0[19:16]), ule(CTR_EL0[19:16], const(9, 4)))),
        )
        layout = self.form.layout
        if layout is None:
            return (*common, ("mmu-off", boot_protocol.mmu_off(sctlr)))
        x0, page = self.entry.registers["x0"], self.form.page_size
        return (
            *common,
            ("mmu-on", (sctlr & _MMU_ON) == _MMU_ON),
            ("kimage-aligned", And(aligned(x0, 8), ule(x0, const(-layout.size)))),
            ("phys-offset-aligned", aligned(self.phys_offset, page)),
        )

    def machine(self, state: State) -> ListMachine:
        """The list machine that a state at the loop's head stands for."""
        form, registers = self.form, state.registers
        return ListMachine(
            registers[form.entry],
            registers[form.ptr],
            registers[form.dest],
            state.memory,
            form.page_size,
            self.phys_offset,
        )

    def explorer(self, stops: frozenset[int], decide: Decide | None) -> Explorer:
        """An explorer of the routine's code."""
        return Explorer(self.code, stops, decide, (self.form.page_size,), PREFIX)

    def collect(self, explorer: Explorer) -> None:
        """Take over what an explorer owes for the loops it crossed, and what it covered."""
        self.obligations += explorer.obligations
        self.covered |= explorer.covered

    def owe(
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

    def owe_access(self, access: Access, what: str, allowed: Formula) -> None:
        """A load or store is aligned and, in words, does ``what``."""
        facts = access.before.facts[: access.known]
        shown = f"the {access.kind} at {self.code.where(access.at)}"
        self.owe("access-region", f"{shown} {what}", facts, allowed, access.at)
        self.owe("access-aligned", f"{shown} is aligned", facts, aligned(access.address, 8), access.at)

    def is_table(self, ttbr: Term, physical: Term) -> Formula:
        """``ttbr`` names the table at ``physical``, folded for 52 bits or not (Arm ARM, TTBR1_EL1)."""
        folded = (physical | shift_right(physical, const(46))) & 0x0000_FFFF_FFFF_FFFC
        return Or(ttbr == physical, ttbr == folded)
