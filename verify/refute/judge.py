"""Which properties a finished run breaks, and the first effect that breaks each.

Every rule here is an obligation of verify.kexec.relocation read of one run, or the
statement of specs.properties itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from specs import boot_protocol
from specs.kimage import KimageLayout
from specs.relocate_kernel import Kind
from verify.arm64.lift import Code
from verify.kexec.form import Form
from verify.refute import ghost
from verify.refute.effects import Access, Context, Event, Mark, Run
from verify.refute.oracle import Oracle, Turn, turns
from verify.refute.scenario import MASK, OutsideError, Scenario, Words, explain

ARBITRARY = frozenset({"reloc-step"})
"""What is claimed of lists that are not well formed too."""


@dataclass(frozen=True)
class Violation:
    """The first effect of a run that breaks a property.

    :param effect: one sentence; ``at``: address of the instruction.
    :param index: how many effects of the run's log lead up to it, itself included.
    """

    property: str
    effect: str
    at: int
    expected: str
    found: str
    index: int


@dataclass
class _Turn:
    """The accesses of a turn, with their numbers in the log."""

    accesses: list[tuple[int, Access]]
    at: int


class Judge:
    """Judges one run."""

    def __init__(self, code: Code, form: Form, scenario: Scenario, run: Run):
        self.code, self.form, self.scenario, self.run = code, form, scenario, run
        self.oracle = Oracle(scenario)
        self.memory = Words(scenario)  # as the run leaves it
        self.stored: set[int] = set()
        self.copied: set[int] = set()  # destination pages of the turns so far
        self.found: dict[str, Violation] = {}
        self.diverged = False
        self.index = 0

    def judge(self) -> dict[str, Violation]:
        """The broken properties by identifier."""
        phase, turn = "before", _Turn([], 0)
        for number, effect in enumerate(self.run.log):
            self.index = number + 1
            if isinstance(effect, Mark):
                if phase == "loop":
                    self._turn_ends(turn, left=effect.at != self.form.loop)
                elif phase == "before":
                    self._starts(effect)
                phase = "loop" if effect.at == self.form.loop else "after"
                turn = _Turn([], effect.at)
            elif isinstance(effect, Event):
                self._event(effect, phase)
            else:
                self._access(effect, phase)
                if phase == "loop":
                    turn.accesses.append((self.index, effect))
                elif effect.kind == "store":
                    self._apply(effect)
        if phase == "loop":
            self._turn_accesses(turn)
        self.index = len(self.run.log) + 1
        self._end(phase)
        claims = self.found if self.scenario.well_formed else {k: v for k, v in self.found.items() if k in ARBITRARY}
        return dict(sorted(claims.items()))

    def _broken(
        self, claim: str, at: int, effect: str, expected: str, found: str, index: int | None = None
    ) -> None:
        if claim not in self.found:
            where = self.code.where(at)
            sentence = f"{where}: {effect}: expected {expected}, found {found}"
            self.found[claim] = Violation(claim, sentence, at, expected, found, index or self.index)

    def _starts(self, mark: Mark) -> None:
        if mark.at == self.form.loop:
            return
        if not self.oracle.ended:
            self._broken("reloc-step", mark.at, "the loop over the list is not entered", "a turn for the head",
                         f"a head without IND_DONE, {self.scenario.head:#x}")

    # Accesses

    def _apply(self, access: Access) -> None:
        for address in range(access.address & -8, access.address + access.size, 8):
            self.stored.add(address)
        try:
            if access.size == 8:
                self.memory.write(access.address, access.value)
            else:
                word = access.address & -8
                shift = 8 * (access.address - word)
                mask = (1 << 8 * access.size) - 1 << shift
                self.memory.write(word, self.memory.read(word) & ~mask & MASK | access.value << shift & mask)
        except OutsideError:
            pass  # a fault: the run ends here

    def _access(self, access: Access, phase: str) -> None:
        if access.address % access.size:
            self._broken("reloc-memory-safe", access.at, f"the {access.kind}", f"an address aligned to {access.size}",
                         f"{access.address:#x}")
        if phase == "loop":
            self._translated(access)
        elif phase == "after":
            self._broken("reloc-memory-safe", access.at, f"a {access.kind} after the loop over the list",
                         "no access", f"{access.address:#x}")
        elif not self._kimage_field(access):
            self._broken("reloc-memory-safe", access.at, f"a {access.kind} before the loop over the list",
                         "reads of struct kimage only", f"{access.address:#x}")

    def _kimage_field(self, access: Access) -> bool:
        scenario = self.scenario
        if not scenario.kimage or access.kind != "load":
            return False
        return (access.address - scenario.kimage_at) & MASK <= KimageLayout(scenario.arch).size - access.size

    def _translated(self, access: Access) -> None:
        """Context and tables of an access in the loop, with the MMU on."""
        if not self.scenario.kimage:
            return
        context = access.context
        if context.unsynced:
            self._broken("reloc-context-synced", access.at, f"the {access.kind}",
                         "an ISB after every context change", "none yet")
        if not self._is_table(context.ttbr1_el1, self.scenario.ttbr1):
            self._broken("reloc-break-before-make", access.at, f"the {access.kind}",
                         f"TTBR1_EL1 for the table at {self.scenario.ttbr1:#x}", f"{context.ttbr1_el1:#x}")
        elif context.translation == ghost.WRITTEN:
            self._broken("reloc-break-before-make", access.at, f"the {access.kind}", "TTBR1_EL1 in effect",
                         ghost.TRANSLATION_STATES[context.translation])

    @staticmethod
    def _is_table(value: int, physical: int) -> bool:
        """With or without the folding of 52-bit addresses (Arm ARM, D24.2.203)."""
        return value in (physical, (physical | physical >> 46) & 0x0000_FFFF_FFFF_FFFC)

    # A turn

    def _turn_accesses(self, turn: _Turn) -> Turn:
        """Judge where the turn's accesses go, and make its stores."""
        if not self.diverged and self.oracle.ended:
            self._broken("reloc-step", turn.at, "the loop goes on after the word with IND_DONE", "its end",
                         f"another turn after {self.oracle.entry:#x}")
            self.diverged = True
        spec = self.oracle.begin()
        page = self.form.page_size
        for index, access in turn.accesses:
            offset = access.address - (spec.dest if access.kind == "store" else spec.addr) & MASK
            inside = spec.kind is Kind.SOURCE and offset <= page - access.size
            if access.kind == "store":
                expected = f"the destination page {spec.dest:#x}" if spec.kind is Kind.SOURCE else "no store"
            else:
                inside = inside or access.address == spec.next_at
                source = f" or the source page {spec.addr:#x}" if spec.kind is Kind.SOURCE else ""
                expected = f"the next word of the list at {spec.next_at:#x}{source}"
            if not inside or self.oracle.ended:
                over = "no access, the list is over" if self.oracle.ended else expected
                self._broken("reloc-memory-safe", access.at, f"the {access.kind} for the word {spec.entry:#x}", over,
                             f"{access.address:#x}", index)
                if not inside and not self.diverged:
                    self._broken("reloc-step", access.at, f"the {access.kind} for the word {spec.entry:#x}", expected,
                                 f"{access.address:#x}", index)
            if access.kind == "store":
                self._apply(access)
        return spec

    def _turn_ends(self, turn: _Turn, left: bool) -> None:
        spec = self._turn_accesses(turn)
        if self.diverged or self.oracle.ended:
            return
        try:
            self.oracle.finish(spec)
        except OutsideError:  # only where a copy put nonsense into the list
            self.diverged = True
            return
        if spec.kind is Kind.SOURCE:
            self.copied.add(spec.dest)
        self._same_memory(turn, spec)
        loads = [(index, access) for index, access in turn.accesses if access.kind == "load"]
        index, last = loads[-1] if loads else (self.index, None)
        if last is None or last.address != spec.next_at:
            found = "no load" if last is None else f"{last.address:#x}"
            self._broken("reloc-step", last.at if last else turn.at, f"reading the word after {spec.entry:#x}",
                         f"a load at {spec.next_at:#x}", found, index)
            self.diverged = True
        elif left != self.oracle.ended:
            self._broken("reloc-step", last.at, f"the word {self.oracle.entry:#x} {'ends' if left else 'does not end'} "
                         "the loop", "the loop to end exactly at IND_DONE", f"{self.oracle.entry:#x}")
            self.diverged = True

    def _same_memory(self, turn: _Turn, spec: Turn) -> None:
        """After the turn memory is the list machine's."""
        pages = {access.address & -self.form.page_size for _, access in turn.accesses if access.kind == "store"}
        if spec.kind is Kind.SOURCE:
            pages.add(spec.dest)
        for page in sorted(pages):
            try:
                actual, expected = self.memory.page(page), self.oracle.memory.page(page)
            except OutsideError:
                continue
            if actual != expected:
                word = next(i for i, pair in enumerate(zip(actual, expected, strict=True)) if pair[0] != pair[1])
                self._wrong_word(turn, spec, page + 8 * word, actual[word], expected[word])

    def _wrong_word(self, turn: _Turn, spec: Turn, address: int, actual: int, expected: int) -> None:
        self.diverged = True
        stores = [(i, a) for i, a in turn.accesses if a.kind == "store" and a.address & -8 == address]
        index, at = (stores[-1][0], stores[-1][1].at) if stores else (self.index, turn.at)
        what = f"the store to {address:#x}" if stores else f"no store to {address:#x}"
        self._broken("reloc-step", at, f"{what} for the word {spec.entry:#x}", explain(expected, self.scenario),
                     explain(actual, self.scenario), index)

    # System instructions

    def _event(self, event: Event, phase: str) -> None:
        match event.name:
            case "msr ttbr1_el1" if self.scenario.kimage:
                self._table(event)
            case "msr sctlr_el1":
                self._clean(event.lines, event.at, "SCTLR_EL1 is written")
            case "DC_IVAC":
                self._invalidation(event, phase)
            case "CallHyperVisor":
                self._called(event)

    def _table(self, event: Event) -> None:
        scenario, context = self.scenario, event.context
        if self._is_table(event.operand, scenario.zero_page):
            return
        if not self._is_table(event.operand, scenario.ttbr1):
            self._broken("reloc-break-before-make", event.at, "TTBR1_EL1 is written",
                         f"the zero page {scenario.zero_page:#x} or the table {scenario.ttbr1:#x}", f"{event.operand:#x}")
        elif not self._is_table(context.ttbr1_el1, scenario.zero_page):
            self._broken("reloc-break-before-make", event.at, "TTBR1_EL1 is written",
                         f"the zero page {scenario.zero_page:#x} in it before", f"{context.ttbr1_el1:#x}")
        elif context.translation != ghost.INVALIDATED:
            self._broken("reloc-break-before-make", event.at, "TTBR1_EL1 is written", "the TLB invalidated before",
                         f"zero page {ghost.TRANSLATION_STATES[context.translation]}")

    def _invalidation(self, event: Event, phase: str) -> None:
        line = event.operand & -self.scenario.line_size
        spec = self.oracle.begin() if phase == "loop" else None
        page = spec.dest if spec and spec.kind is Kind.SOURCE else None
        if page is None or (line - page) & MASK > self.form.page_size - self.scenario.line_size:
            wanted = "no invalidation" if page is None else f"a line of the destination page {page:#x}"
            self._broken("reloc-clean-to-poc", event.at, "the invalidation without cleaning", wanted, f"{line:#x}")

    def _called(self, event: Event) -> None:
        scenario = self.scenario
        if scenario.kimage and not scenario.el2_vectors:
            self._broken("reloc-entry-state", event.at, "the HVC", "none with el2_vectors = 0", "a call")
        wanted = (boot_protocol.HVC_SOFT_RESTART, scenario.start, scenario.dtb_mem, 0, 0)
        self._registers(event.at, "the HVC", wanted, event.registers)
        self._machine(event.at, event.context, "the HVC")
        if scenario.hvc == "taken":
            self._clean(event.lines, event.at, "EL2 takes the HVC")

    # The end

    def _registers(self, at: int, what: str, wanted: tuple[int, ...], found: tuple[int, ...]) -> None:
        for number, value in enumerate(wanted):
            if found[number] != value:
                self._broken("reloc-entry-state", at, what, f"x{number} = {value:#x}", f"{found[number]:#x}")

    def _machine(self, at: int, context: Context, what: str) -> None:
        if not boot_protocol.mmu_off(context.sctlr_el1):
            self._broken("reloc-entry-state", at, what, "SCTLR_EL1.M and .C clear", f"{context.sctlr_el1:#x}")
        if not boot_protocol.masked(context.daif):
            self._broken("reloc-entry-state", at, what, "interrupts masked", f"DAIF {context.daif:#x}")
        if context.icache != ghost.ICACHE_INVALID:
            self._broken("reloc-icache-invalid", at, what, "an invalid instruction cache",
                         ghost.ICACHE_STATES[context.icache])

    def _end(self, phase: str) -> None:
        run, scenario = self.run, self.scenario
        end = run.end
        # A run that broke off did not get to what follows.
        if end.kind == "timeout":
            self._broken("reloc-terminates", end.at, "the run", "an end on this finite list",
                         f"no end within {run.count} instructions")
            return
        if end.kind == "br":
            if end.target != scenario.start:
                self._broken("reloc-entry-state", end.at, "the branch out", f"start, {scenario.start:#x}", f"{end.target:#x}")
            self._registers(end.at, "the branch to start", (scenario.dtb_mem, 0, 0, 0), run.registers)
            self._machine(end.at, run.context, "the branch to start")
            if run.context.unsynced:
                self._broken("reloc-context-synced", end.at, "the branch to start", "an ISB after every context change",
                             "none after the last")
            self._clean(run.ghost.lines, end.at, "control leaves to start")
        elif end.kind not in ("hvc", "fault", "stopped"):
            target = f" to {end.target:#x}" if end.target else ""
            self._broken("reloc-entry-state", end.at, "the exit", f"a branch to start, {scenario.start:#x}", f"{end.kind}{target}")
        if end.kind in ("br", "hvc"):
            self._pages(end.at)

    def _pages(self, at: int) -> None:
        """Each destination page holds what its source held at entry, and all else is as it was."""
        before = Words(self.scenario)
        copies = {turn.dest: turn.addr for turn in turns(self.scenario)[0] if turn.kind is Kind.SOURCE}
        for page in sorted(self.memory.touched | set(copies)):
            expected, actual = before.page(copies.get(page, page)), self.memory.page(page)
            if expected != actual:
                word = next(i for i, pair in enumerate(zip(actual, expected, strict=True)) if pair[0] != pair[1])
                role = "the destination page" if page in copies else "a page of no destination"
                self._broken("reloc-dest-pages", at, f"memory at {page + 8 * word:#x}, in {role} {page:#x},",
                             explain(expected[word], self.scenario), explain(actual[word], self.scenario))

    def _clean(self, lines: dict[int, int] | None, at: int, when: str) -> None:
        """Every word that was written, or was clean, is clean to PoC."""
        states = lines or {}
        initial = self.run.ghost.initial
        for page in sorted(self.copied):
            for word in range(page, page + self.form.page_size, 8):
                if states.get(word, initial(word)) != ghost.CLEAN:
                    self._dirty(word, states.get(word, initial(word)), at, when)
                    return
        for word, state in states.items():
            owed = word in self.stored or state == ghost.LOST or initial(word) == ghost.CLEAN
            if state != ghost.CLEAN and owed:
                self._dirty(word, state, at, when)
                return

    def _dirty(self, word: int, state: int, at: int, when: str) -> None:
        self._broken("reloc-clean-to-poc", at, f"when {when}, the word at {word:#x}", "clean to the point of coherency",
                     ghost.LINE_STATES[state])


def judge(code: Code, form: Form, scenario: Scenario, run: Run) -> dict[str, Violation]:
    """The properties that ``run`` breaks, by identifier, each with the first effect that breaks it."""
    return Judge(code, form, scenario, run).judge()
