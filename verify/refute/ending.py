"""Check the machine's state at system instructions, and where control leaves the routine."""

from __future__ import annotations

from dataclasses import dataclass

from kexec_verify.arm64.system import FREE
from kexec_verify.kexec.abi_variant import AbiVariant
from kexec_verify.refute import ghost
from kexec_verify.refute.effects import Context, Event, Run
from kexec_verify.refute.lockstep import Lockstep, first_difference
from kexec_verify.refute.oracle import iterations
from kexec_verify.refute.scenario import MASK, SCTLR_OFF, SP, WORD, OutsideError, Scenario, Words, explain
from kexec_verify.refute.violation import Findings
from kexec_verify.specs import boot_protocol
from kexec_verify.specs.relocate_kernel import Kind

_TTBR1_OFFSET = 0x1E00  # of kernels with 64 KiB pages and 52-bit addresses (offset_ttbr1)
_T1SZ_48 = 16

MAINTENANCE = frozenset({"DC_CIVAC", "DC_CVAC", "DC_IVAC"})
"""Cache maintenance by address, by SLEIGH's names."""


def is_table(value: int, physical: int, folds: bool | None, offset: int = 0) -> bool:
    """Return whether ``value`` is a TTBR for a table, with or without the folding of 52-bit addresses.

    Source: Arm ARM, D24.2.203.

    :param folds: whether the kernel folds them; None where that is not known.
    """
    folded = (physical | physical >> 46) & 0x0000_FFFF_FFFF_FFFC
    if folds is None and physical >> 48:
        return value in (physical | offset, folded | offset)
    return value == (folded if folds else physical) | offset


def is_copy(variant: AbiVariant, scenario: Scenario, context: Context) -> bool:
    """Return whether TTBR1_EL1 names the kimage's table, with the offset that this kernel adds on this
    CPU.
    """
    return _names_copy(variant, scenario, context.ttbr1_el1, context.tcr_el1)


def _names_copy(variant: AbiVariant, scenario: Scenario, value: int, tcr: int) -> bool:
    offset = _TTBR1_OFFSET if variant.offsets_ttbr1 and tcr >> 16 & 63 == _T1SZ_48 else 0
    return is_table(value, scenario.ttbr1, variant.folds_ttbr, offset)


def _allowed(variant: AbiVariant) -> frozenset[str]:
    """Return the effects that some rule of the routine allows; their operands are judged one by one."""
    common = {"IC_IALLU", "DC_CIVAC", "DC_CVAC"}
    if variant.kimage:
        return frozenset({*common, "TLBI_VMALLE1", "msr ttbr1_el1", "msr sctlr_el1", "CallHyperVisor"})
    return frozenset({*common, "DC_IVAC"})


@dataclass
class Ending:
    """Judges events and the end of one run."""

    variant: AbiVariant
    scenario: Scenario
    run: Run
    findings: Findings
    lockstep: Lockstep

    def event(self, event: Event, phase: str) -> None:
        """Judge one system instruction."""
        if event.name not in FREE and event.name not in _allowed(self.variant):
            what = f"the routine executes {event.name}"
            expected = "no such effect (specs/effects.py)"
            self.findings.broken("reloc-effects", event.at, what, expected, event.name)
        if event.name == "msr sctlr_el1" and event.operand != boot_protocol.SCTLR_MMU_OFF:
            wanted = f"the value with the MMU off, {boot_protocol.SCTLR_MMU_OFF:#x}"
            found = f"{event.operand:#x}"
            self.findings.broken("reloc-effects", event.at, "SCTLR_EL1 is written", wanted, found)
        if event.name in MAINTENANCE and event.context.sctlr_el1 & ghost.SCTLR_M:
            self._mapped(event, phase)
        match event.name:
            case "msr ttbr1_el1" if self.scenario.kimage:
                self._table(event, phase)
            case "msr sctlr_el1":
                self._clean(event.lines or {}, event.at, "when SCTLR_EL1 is written")
            case "DC_IVAC":
                self._invalidation(event, phase)
            case "CallHyperVisor":
                self._called(event)

    def _table(self, event: Event, phase: str) -> None:
        """Require the zero page, or the kimage's table once the TLB holds no entry of the old one."""
        scenario, context = self.scenario, event.context
        expected, found = None, f"{event.operand:#x}"
        if phase == "after":
            expected = "no write after the loop over the list"
        elif is_table(event.operand, scenario.zero_page, self.variant.folds_ttbr):
            return
        elif not _names_copy(self.variant, scenario, event.operand, context.tcr_el1):
            expected = f"the zero page {scenario.zero_page:#x} or the table {scenario.ttbr1:#x}"
        elif not is_table(context.ttbr1_el1, scenario.zero_page, self.variant.folds_ttbr):
            expected = f"the zero page {scenario.zero_page:#x} in TTBR1_EL1 before the write"
            found = f"{context.ttbr1_el1:#x}"
        elif context.translation != ghost.INVALIDATED:
            expected = "the TLB invalidated since the zero page was written"
            found = f"zero page {ghost.TRANSLATION_STATES[context.translation]}"
        if expected is not None:
            self.findings.broken("reloc-break-before-make", event.at, "TTBR1_EL1 is written", expected, found)

    def _mapped(self, event: Event, phase: str) -> None:
        """Require that maintenance by address is mapped by the kimage's table: otherwise it faults."""
        spec = self.lockstep.oracle.begin() if phase == "loop" else None
        expected = "no maintenance except for the copied page"
        if spec is not None and spec.kind is Kind.SOURCE:
            if any((event.operand - page) & MASK < self.variant.page_size for page in (spec.dest, spec.addr)):
                return
            expected = f"an address in the destination page {spec.dest:#x} or the source page {spec.addr:#x}"
        what = "the cache maintenance"
        self.findings.broken("reloc-memory-safe", event.at, what, expected, f"{event.operand:#x}")

    def _invalidation(self, event: Event, phase: str) -> None:
        """Require that invalidation without cleaning affects only the page about to be overwritten."""
        line = event.operand & -self.scenario.line_size
        spec = self.lockstep.oracle.begin() if phase == "loop" else None
        expected = "no dc ivac"
        if spec is not None and spec.kind is Kind.SOURCE:
            if (line - spec.dest) & MASK <= self.variant.page_size - self.scenario.line_size:
                return
            expected = f"a line of the destination page {spec.dest:#x}"
        self.findings.broken("reloc-clean-to-poc", event.at, "the dc ivac", expected, f"{line:#x}")

    def _called(self, event: Event) -> None:
        scenario = self.scenario
        if scenario.kimage and not scenario.el2_vectors:
            wanted_none = "no HVC, because el2_vectors is 0"
            self.findings.broken("reloc-entry-state", event.at, "the HVC", wanted_none, "an HVC")
        wanted = (boot_protocol.HVC_SOFT_RESTART, scenario.start, scenario.dtb_mem, 0, 0)
        self._registers(event.at, "at the HVC", wanted, event.registers)
        self._machine(event.at, event.context, "at the HVC")
        self._clean(event.lines or {}, event.at, "at the HVC")

    # The end

    def end(self) -> None:
        """Judge how control leaves. A run that was cut short is judged only by what it reached."""
        run, scenario, end = self.run, self.scenario, self.run.end
        broken = self.findings.broken
        if end.kind == "endless":
            found = "a state that repeats, with the same memory"
            broken("reloc-terminates", end.at, "the run", "an end on this finite list", found)
        elif end.kind in ("br", "ret") or (end.kind == "call" and end.target == scenario.start):
            what = "at the branch to start"
            if end.target != scenario.start:
                wanted = f"to start, {scenario.start:#x}"
                broken("reloc-entry-state", end.at, "the branch out", wanted, f"to {end.target:#x}")
            self._registers(end.at, what, (scenario.dtb_mem, 0, 0, 0), run.registers)
            if run.sp != scenario.unset(SP):
                broken(
                    "reloc-effects", end.at, what, f"SP unchanged, {scenario.unset(SP):#x}", f"{run.sp:#x}"
                )
            self._machine(end.at, run.context, what)
            asked = any(isinstance(e, Event) and e.name == "CallHyperVisor" for e in run.log)
            if scenario.kimage and scenario.el2_vectors and not asked:
                expected = "an HVC first, because el2_vectors is set"
                broken("reloc-entry-state", end.at, what, expected, "no HVC")
            self._clean(run.ghost.lines, end.at, what)
        elif end.kind not in ("hvc", "fault", "timeout", "stopped"):
            target = f" to {end.target:#x}" if end.target else ""
            found = f"control outside of the routine, at {end.target:#x}"
            found = found if end.kind == "fetch" else f"{end.kind}{target}"
            wanted = f"a branch to start, {scenario.start:#x}"
            broken("reloc-entry-state", end.at, "the exit", wanted, found)
        if end.kind in ("br", "ret", "call", "hvc"):
            self._pages(end.at)

    def _registers(self, at: int, what: str, wanted: tuple[int, ...], found: tuple[int, ...]) -> None:
        for number, value in enumerate(wanted):
            if found[number] != value:
                expected = f"x{number} = {value:#x}"
                self.findings.broken("reloc-entry-state", at, what, expected, f"{found[number]:#x}")

    def _machine(self, at: int, context: Context, what: str) -> None:
        broken = self.findings.broken
        off = boot_protocol.SCTLR_MMU_OFF if self.variant.kimage else SCTLR_OFF
        if context.sctlr_el1 != off:
            broken("reloc-entry-state", at, what, f"SCTLR_EL1 {off:#x}", f"{context.sctlr_el1:#x}")
        if context.unsynced:
            broken("reloc-context-synced", at, what, "an ISB after every context change", "no ISB")
        if not boot_protocol.masked(context.daif):
            broken("reloc-entry-state", at, what, "interrupts masked", f"DAIF {context.daif:#x}")
        if context.icache != ghost.ICACHE_INVALID:
            state = ghost.ICACHE_STATES[context.icache]
            broken("reloc-icache-invalid", at, what, "an invalidated instruction cache", state)

    def _pages(self, at: int) -> None:
        """Require that each destination page has its source's contents and that other memory is unchanged."""
        before = Words(self.scenario)
        try:
            made = iterations(self.scenario)[0]
        except OutsideError:
            return
        copies = {iteration.dest: iteration.addr for iteration in made if iteration.kind is Kind.SOURCE}
        for page in sorted(self.lockstep.memory.touched | set(copies)):
            wrong = first_difference(self.lockstep.memory, before, page, copies.get(page, page))
            if wrong is not None:
                address, found, expected = wrong
                role = "the destination page" if page in copies else "a page that is not a destination"
                what = f"memory at {address:#x}, in {role} {page:#x}"
                wanted, got = explain(expected, self.scenario), explain(found, self.scenario)
                self.findings.broken("reloc-dest-pages", at, what, wanted, got)

    def _clean(self, lines: dict[int, int], at: int, when: str) -> None:
        """Require that every word that was written, or was clean at entry, is clean to the PoC."""
        initial, granule = self.run.ghost.initial, self.run.ghost.granule

        def judged(word: int, state: int) -> bool:
            if state != ghost.CLEAN:
                what = f"{when}, the word at {word:#x}"
                found = ghost.LINE_STATES[state]
                self.findings.broken("reloc-clean-to-poc", at, what, "clean to the point of coherency", found)
            return state != ghost.CLEAN

        for page in sorted(self.lockstep.copied):
            for word in range(page, page + self.variant.page_size, granule):
                if judged(word, lines.get(word, initial(word))):
                    return
        for word, state in lines.items():
            required = (
                word & -WORD in self.lockstep.stored or state == ghost.LOST or initial(word) == ghost.CLEAN
            )
            if required and judged(word, state):
                return
