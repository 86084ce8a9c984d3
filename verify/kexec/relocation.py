"""What is owed for arm64_relocate_new_kernel: the obligations of T1, T2, T4 and T5.

Three parts of the routine, cut at the head of the loop over the list and where it is
left: before the loop, one turn of it, after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from specs import boot_protocol
from specs.kimage import one_flag
from specs.relocate_kernel import Kind, ListMachine, done, is_kind
from verify.arm64 import cache
from verify.arm64.cache import CTR_EL0, Lines
from verify.arm64.execute import Exit, Step
from verify.arm64.lift import Code
from verify.arm64.state import (
    GHOSTS,
    ICACHE_INVALID,
    SCTLR_C,
    SCTLR_M,
    TRANSLATION_INVALIDATED,
    TRANSLATION_WRITTEN,
    Access,
    Event,
    State,
    unknown_ghosts,
    unknown_registers,
)
from verify.errors import UnsupportedError
from verify.kexec.form import ENTRY_MEMORY, Form, entry_state
from verify.logic import (
    TRUE,
    And,
    Formula,
    Function,
    Implies,
    Not,
    Or,
    Term,
    aligned,
    const,
    constant,
    same,
    shift_right,
    ule,
    ult,
    var,
    variables,
    within,
)
from verify.obligation import Facts, Obligation
from verify.symbolic.explore import ANYWHERE, Decide, Explorer
from verify.symbolic.memory import Unknown, cases

TOP = (1 << 64) - (1 << 20)
_PREFIX = "reloc-"


@dataclass
class Relocation:
    """Builds every obligation on one routine.

    :param decide: filters invariants (never proves).
    :param one_flag: assume that each word has exactly one flag.
    """

    code: Code
    form: Form
    decide: Decide
    one_flag: bool = False
    obligations: list[Obligation] = field(default_factory=list)
    covered: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.entry = entry_state()
        x0 = self.entry.registers["x0"]
        layout = self.form.layout
        if layout is not None:

            def kimage(offset: int) -> Term:
                return Function(ENTRY_MEMORY)(x0 + offset)

            self.head, self.start, self.dtb = kimage(layout.head), kimage(layout.start), kimage(layout.dtb_mem)
            self.phys_offset = kimage(layout.phys_offset)
            self.ttbr1, self.zero_page = kimage(layout.ttbr1), kimage(layout.zero_page)
            self.el2_vectors: Term | None = kimage(layout.el2_vectors)
        else:
            self.head, self.start, self.dtb = x0, self.entry.registers["x1"], self.entry.registers["x2"]
            self.phys_offset = const(0)
            self.el2_vectors = None

    # What is known

    def assumptions(self) -> Facts:
        """Facts about the state in which the routine is entered."""
        sctlr = self.entry.registers["sctlr_el1"]
        on = SCTLR_M | SCTLR_C
        facts: list[tuple[str, Formula]] = [
            ("daif-masked", boot_protocol.masked(self.entry.registers["daif"])),
            ("ctr-legal", ule(CTR_EL0[19:16], const(9, 4))),
        ]
        layout = self.form.layout
        if layout is None:
            facts.append(("mmu-off", (sctlr & on) == 0))
            return tuple(facts)
        x0 = self.entry.registers["x0"]
        page = self.form.page_size
        return (
            *facts,
            ("mmu-on", (sctlr & on) == on),
            ("kimage-aligned", aligned(x0, 8)),
            ("kimage-aligned", ule(x0, const(-layout.size))),
            ("phys-offset-aligned", aligned(self.phys_offset, page)),
            ("tables-addressable", And(aligned(self.ttbr1, page), aligned(self.zero_page, page))),
        )

    def machine(self, state: State) -> ListMachine:
        """The list machine that a state at the loop's head stands for."""
        return ListMachine(
            state.registers[self.form.entry],
            state.registers[self.form.ptr],
            state.registers[self.form.dest],
            state.memory,
            self.form.page_size,
            self.phys_offset,
        )

    def _owe(
        self, name: str, sentence: str, hypotheses: Facts, goal: Formula, step: Step | None = None, at: int | None = None
    ) -> None:
        path = step.state.trace if step else ()
        self.obligations.append(Obligation(_PREFIX + name, sentence, hypotheses, goal, at, path))

    # Before the loop

    def build(self) -> list[Obligation]:
        """Every obligation; each is owed by the property whose globs match its name."""
        arrivals = self._before()
        entering = [step for step in arrivals if step.then == self.form.loop]
        skipping = [step for step in arrivals if step.then != self.form.loop]
        head = self._loop_state(entering)
        head, turns = self._settle_ghosts(head, entering)
        self._turns(head, turns)
        leaving = [step for step in turns if step.then != self.form.loop]
        self._after([*leaving, *skipping])
        self._coverage()
        return self.obligations

    def _before(self) -> list[Step]:
        stops = frozenset({self.form.loop, *self.form.exits})
        explorer = Explorer(self.code, stops, self.decide, prefix=_PREFIX)
        start = self.entry.assume(*self.assumptions())
        arrivals = explorer.run(start, self.code.address)
        self._collect(explorer)
        for step in arrivals:
            state = step.state
            if isinstance(step.then, Exit):
                raise UnsupportedError("exit before the loop over the list", state.trace[-1])
            untouched = And(*(TRUE if a.kind == "load" else Not(TRUE) for a in state.accesses))
            self._owe("init", "nothing is stored before the loop", state.facts, untouched, step)
            for access in state.accesses:
                self._kimage_access(access)
            self._table_events(state.events)
            if step.then == self.form.loop:
                entry = state.registers[self.form.entry]
                self._owe("init", "the first word is kimage->head", state.facts, entry == self.head, step)
            else:
                self._owe(
                    "init", "the loop is skipped only for a head with IND_DONE", state.facts, done(self.head), step
                )
        return arrivals

    def _kimage_access(self, access: Access) -> None:
        facts = access.before.facts[: access.known]
        layout = self.form.layout
        allowed = Not(TRUE)
        if layout is not None and access.kind == "load":
            allowed = within(access.address, self.entry.registers["x0"], layout.size)
        where = self.code.where(access.at)
        self._owe("access-region", f"the {access.kind} at {where} reads a field of struct kimage", facts, allowed, at=access.at)
        self._aligned(access, facts)

    def _aligned(self, access: Access, facts: Facts) -> None:
        where = self.code.where(access.at)
        self._owe("access-aligned", f"the {access.kind} at {where} is aligned", facts, aligned(access.address, 8), at=access.at)

    def _table_events(self, events: Iterable[Event]) -> None:
        """Each write of TTBR1 goes to the zero page, or to the copy of the linear map after an invalidation."""
        for event in events:
            if event.name == "msr ttbr1_el1" and self.form.kimage:
                (value,) = event.operands
                before = event.before
                broken = And(
                    before.ghosts["translation"] == TRANSLATION_INVALIDATED,
                    self._is_table(before.registers["ttbr1_el1"], self.zero_page),
                )
                self._owe(
                    "ttbr1-order",
                    f"TTBR1_EL1 at {self.code.where(event.at)} is set to the zero page, or to the kimage's table "
                    "with the zero page in place and the TLB invalidated",
                    before.facts[: event.known],
                    Or(
                        self._is_table(value, self.zero_page),
                        And(broken, self._is_table(value, self.ttbr1)),
                    ),
                    at=event.at,
                )

    @staticmethod
    def _is_table(value: Term, physical: Term) -> Formula:
        """``value`` is a TTBR for the table at ``physical``, with or without 52-bit folding (Arm ARM, D24.2.203)."""
        folded = (physical | shift_right(physical, const(46))) & 0x0000_FFFF_FFFF_FFFC
        return Or(value == physical, value == folded)

    # The loop

    def _loop_state(self, entering: list[Step]) -> State:
        """A state at the loop's head: any memory and word; what no turn changes is as at entry."""
        if len(entering) != 1:
            raise UnsupportedError(f"{len(entering)} paths to the loop over the list", self.form.loop)
        before = entering[0].state
        registers = unknown_registers("loop")
        ghosts = {name: value if constant(value) is not None else unknown_ghosts("loop")[name]
                  for name, value in before.ghosts.items()}
        roles = {self.form.entry, self.form.ptr, self.form.dest}
        generic = State(unknown_registers("loop"), unknown_ghosts("loop"), Unknown("M"), Lines("L"))
        stops = frozenset({self.form.loop, *self.form.exits})
        turns = Explorer(self.code, stops).run(generic, self.form.loop)
        back = [step.state for step in turns if step.then == self.form.loop]
        for name, value in registers.items():
            if name not in roles and all(same(state.registers[name], value) for state in back):
                registers[name] = before.registers[name]
        return State(registers, ghosts, Unknown("M"), Lines("L"), self.assumptions())

    def _settle_ghosts(self, head: State, entering: list[Step]) -> tuple[State, list[Step]]:
        """Runs a turn; a ghost component that a turn may change is unknown at the head."""
        while True:
            explorer, turns = self._run_turns(head)
            unstable = {
                name: var(f"{name}@loop", GHOSTS[name])
                for step in turns
                if step.then == self.form.loop
                for name in GHOSTS
                if constant(head.ghosts[name]) is not None
                and not self.decide(step.state.facts, step.state.ghosts[name] == head.ghosts[name])
            }
            if not unstable:
                self._collect(explorer)
                self._explorer = explorer
                return head, turns
            head = head.with_ghosts(**unstable)

    def _run_turns(self, head: State) -> tuple[Explorer, list[Step]]:
        stops = frozenset({self.form.loop, *self.form.exits})
        page = self.form.page_size
        explorer = Explorer(self.code, stops, self.decide, (page,), _PREFIX)
        machine = self.machine(head)
        source = is_kind(machine.entry, Kind.SOURCE)
        indirect = is_kind(machine.entry, Kind.INDIRECTION)
        known: Facts = (
            ("list-defined", Implies(source, aligned(machine.dest, page))),
            ("list-defined", Or(indirect, aligned(machine.ptr, 8))),
            ("pages-below-top", Implies(source, ult(machine.dest, const(TOP)))),
            ("pages-below-top", Implies(source, ult(machine.addr, const(TOP)))),
            *((("list-one-flag", one_flag(machine.entry)),) if self.one_flag else ()),
            ("no word was lost so far", Lines("L").read(ANYWHERE) != cache.LOST),
        )
        return explorer, explorer.run(head.assume(*known), self.form.loop)

    def _kinds(self, step: Step, entry: Term) -> Iterator[tuple[Kind, Facts]]:
        """The kinds of word that a path is for, with the facts that then hold."""
        facts = step.state.facts
        implied = [kind for kind in Kind if self.decide(facts, is_kind(entry, kind))]
        if implied:
            kind = implied[0]
            self._owe(f"step-{kind}", f"this path runs only for a {kind} word", facts, is_kind(entry, kind), step)
            yield kind, facts
            return
        for kind in Kind:
            yield kind, (*facts, (f"the word is a {kind} word", is_kind(entry, kind)))

    def _turns(self, head: State, turns: list[Step]) -> None:
        before = self.machine(head)
        kinds = [is_kind(before.entry, kind) for kind in Kind]
        self._owe("step-kinds", "each word is of some kind of the list machine", (), Or(*kinds))
        for step in turns:
            if isinstance(step.then, Exit):
                raise UnsupportedError("exit inside the loop over the list", step.state.trace[-1])
            for kind, facts in self._kinds(step, before.entry):
                self._step(before, kind, facts, step)
                self._lines_after_turn(before, kind, facts, step)
            self._frame(head, step)
            self._table_events(step.state.events)
            self._turn_accesses(before, step.state)
            self._turn_events(before, step.state.events)
        for turn in self._explorer.turns:
            self._turn_accesses(before, turn)
            self._turn_events(before, turn.events)

    def _step(self, before: ListMachine, kind: Kind, facts: Facts, step: Step) -> None:
        """After the turn the registers and memory are those of the list machine."""
        name = f"step-{kind}"
        state = step.state
        spec = before.turn(kind)
        after = self.machine(state)
        self._owe(name, f"a {kind} word leaves ptr as the list machine does", facts, after.ptr == spec.ptr, step)
        self._owe(name, f"a {kind} word leaves dest as the list machine does", facts, after.dest == spec.dest, step)
        for label, known, address in cases(state.memory, ANYWHERE):
            self._owe(
                f"{name}-memory",
                f"a {kind} word leaves memory as the list machine does, {label}",
                (*facts, ("the word is aligned", aligned(ANYWHERE, 8)), *known),
                state.memory.read(address) == spec.memory.read(address),
                step,
            )
        loaded = state.memory.read(spec.ptr - 8)
        self._owe(
            f"{name}-next",
            f"after a {kind} word the next one is read where the list machine reads it",
            facts,
            after.entry == loaded,
            step,
        )
        stops = done(after.entry)
        goal = Not(stops) if step.then == self.form.loop else stops
        self._owe(
            f"{name}-ends", f"after a {kind} word the loop is left exactly if the next one has IND_DONE", facts, goal, step
        )
        page = self.form.page_size
        self._owe(
            f"{name}-defined",
            f"after a {kind} word destination and pointer stay aligned",
            facts,
            And(
                Implies(Or(aligned(before.dest, page), is_kind(before.entry, Kind.DESTINATION)), aligned(after.dest, page)),
                aligned(after.ptr, 8),
            ),
            step,
        )

    def _frame(self, head: State, step: Step) -> None:
        """What the loop's head assumes of registers and ghost state holds again."""
        state = step.state
        kept = [
            state.registers[name] == value
            for name, value in head.registers.items()
            if not same(value, var(f"{name}@loop", value.length)) and name not in self._roles
        ]
        ghosts = [state.ghosts[name] == value for name, value in head.ghosts.items() if constant(value) is not None]
        if step.then == self.form.loop:
            self._owe("step-frame", "a turn keeps every register and flag that later code relies on",
                      state.facts, And(*kept, *ghosts), step)

    @property
    def _roles(self) -> set[str]:
        return {self.form.entry, self.form.ptr, self.form.dest}

    def _turn_accesses(self, before: ListMachine, state: State) -> None:
        page = self.form.page_size
        source = is_kind(before.entry, Kind.SOURCE)
        for access in state.accesses:
            facts = access.before.facts[: access.known]
            where = self.code.where(access.at)
            if access.kind == "load":
                next_word = Or(
                    *(And(is_kind(before.entry, kind), access.address == before.act(kind).ptr) for kind in Kind)
                )
                allowed = Or(next_word, And(source, within(access.address, before.addr, page)))
                what = "reads the next word of the list, or the source page"
            else:
                allowed = And(source, within(access.address, before.dest, page))
                what = "writes the destination page"
            self._owe("access-region", f"the {access.kind} at {where} {what}", facts, allowed, at=access.at)
            self._aligned(access, facts)
            if self.form.kimage:
                self._owe(
                    "ttbr1-in-effect",
                    f"the {access.kind} at {where} is translated by the copy of the linear map",
                    facts,
                    And(
                        self._is_table(access.before.registers["ttbr1_el1"], self.ttbr1),
                        access.before.ghosts["translation"] != TRANSLATION_WRITTEN,
                    ),
                    at=access.at,
                )
                self._owe(
                    "context-before-access",
                    f"the {access.kind} at {where} comes after an ISB for every context change",
                    facts,
                    access.before.ghosts["unsynced"] == 0,
                    at=access.at,
                )

    def _turn_events(self, before: ListMachine, events: Iterable[Event]) -> None:
        for event in events:
            if event.name == "DC_IVAC":
                line = cache.line(event.operands[0])
                page = self.form.page_size
                self._owe(
                    "clean-to-poc-inval",
                    f"the invalidation at {self.code.where(event.at)} touches lines of the destination page only",
                    event.before.facts[: event.known],
                    And(within(line, before.dest, page), within(line + cache.line_size() - 1, before.dest, page)),
                    at=event.at,
                )

    def _lines_after_turn(self, before: ListMachine, kind: Kind, facts: Facts, step: Step) -> None:
        """Words of the destination page are clean after the turn, and clean words stay clean."""
        state = step.state
        here = (("the word is aligned", aligned(ANYWHERE, 8)),)
        after = state.lines.read(ANYWHERE) == cache.CLEAN
        inside = within(ANYWHERE, before.dest, self.form.page_size)
        if kind is Kind.SOURCE:
            self._owe(
                "clean-to-poc",
                "after a source word every word of the destination page is clean to PoC",
                (*facts, *here),
                Implies(inside, after),
                step,
            )
        self._owe(
            "clean-to-poc-kept",
            f"a {kind} word loses nothing that a cache holds",
            (*facts, *here),
            state.lines.read(ANYWHERE) != cache.LOST,
            step,
        )
        self._owe(
            "clean-to-poc-kept",
            f"a {kind} word leaves clean what was clean",
            (*facts, *here, ("the word was clean", Lines("L").read(ANYWHERE) == cache.CLEAN)),
            after,
            step,
        )

    # After the loop

    def _after(self, arrivals: list[Step]) -> None:
        for stop in sorted({step.then for step in arrivals}):
            self._after_stop(stop, [step.state for step in arrivals if step.then == stop])

    def _after_stop(self, stop: int, arrivals: list[State]) -> None:
        registers = unknown_registers("done")
        for name in registers:
            first = arrivals[0].registers[name]
            if all(same(state.registers[name], first) for state in arrivals) and self._of_entry(first):
                registers[name] = first
        ghosts = unknown_ghosts("done")
        for name in ghosts:
            for value in range(1 << GHOSTS[name]):
                if all(self.decide(s.facts, s.ghosts[name] == value) for s in arrivals):
                    ghosts[name] = const(value, GHOSTS[name])
                    for state in arrivals:
                        self._owe(
                            "step-frame", f"ghost component {name} when the loop is left",
                            state.facts, state.ghosts[name] == value, Step(state, stop),
                        )
                    break
        state = State(registers, ghosts, Unknown("M1"), Lines("L1"), self.assumptions())
        explorer = Explorer(self.code, frozenset(), self.decide, (self.form.page_size,), _PREFIX)
        for step in explorer.run(state, stop):
            self._exit(step)
        self._collect(explorer)

    @staticmethod
    def _of_entry(value: Term) -> bool:
        """``value`` speaks of the state at entry only."""
        return all(
            name.endswith("@entry") or name == "ctr_el0" or name.startswith(f"{ENTRY_MEMORY}@")
            for name in variables([value])
        )

    def _exit(self, step: Step) -> None:
        state, leaves = step.state, step.then
        assert isinstance(leaves, Exit)
        facts = state.facts
        where = self.code.where(state.trace[-1])
        to_start = And(TRUE if leaves.kind == "br" else Not(TRUE), leaves.target == self.start)
        self._owe("entry-target", f"the exit at {where} goes to kimage->start", facts, to_start, step)
        self._owe("entry-registers", f"at {where} x0 = dtb and x1 = x2 = x3 = 0", facts,
                  boot_protocol.registers(state.registers, self.dtb), step)
        self._machine_at_exit("entry", where, state, facts, step)
        self._owe("context-at-exit", f"at {where} no context change awaits an ISB", facts, state.ghosts["unsynced"] == 0, step)
        for access in state.accesses:
            self._owe("access-region", f"nothing is loaded or stored after the loop ({self.code.where(access.at)})",
                      facts, Not(TRUE), step, access.at)
        self._clean_kept(f"at {where}", facts, state, step)
        for event in state.events:
            known = event.before.facts[: event.known]
            if event.name == "msr sctlr_el1":
                self._clean_kept(f"when SCTLR_EL1 is written at {self.code.where(event.at)}", known, event.before, step)
            if event.name == "CallHyperVisor":
                self._hypervisor_call(event, known, step)
        self._table_events(state.events)

    def _machine_at_exit(self, name: str, where: str, state: State, facts: Facts, step: Step) -> None:
        sctlr, daif = state.registers["sctlr_el1"], state.registers["daif"]
        self._owe(f"{name}-mmu-off", f"at {where} MMU and data cache are off", facts, boot_protocol.mmu_off(sctlr), step)
        self._owe(f"{name}-masked", f"at {where} interrupts are masked", facts, boot_protocol.masked(daif), step)
        self._owe("icache-invalid", f"at {where} the instruction cache is invalid and that is complete", facts,
                  state.ghosts["icache"] == ICACHE_INVALID, step)

    def _hypervisor_call(self, event: Event, facts: Facts, step: Step) -> None:
        where = self.code.where(event.at)
        before = event.before
        called = TRUE if self.el2_vectors is None else self.el2_vectors != 0
        self._owe("entry-hvc", f"the HVC at {where} asks for HVC_SOFT_RESTART of start and dtb, and only with el2_vectors set",
                  facts, And(called, boot_protocol.soft_restart_call(before.registers, self.start, self.dtb)), step)
        self._machine_at_exit("entry-hvc", where, before, facts, step)

    def _clean_kept(self, when: str, facts: Facts, state: State, step: Step) -> None:
        before = Lines("L1").read(ANYWHERE) == cache.CLEAN
        self._owe("clean-to-poc-kept", f"{when} every word that was clean when the loop was left is clean",
                  (*facts, ("the word was clean", before)), state.lines.read(ANYWHERE) == cache.CLEAN, step)

    def _collect(self, explorer: Explorer) -> None:
        self.obligations += explorer.obligations
        self.covered |= explorer.covered

    def _coverage(self) -> None:
        for address in self.code.addresses:
            reached = TRUE if address in self.covered else Not(TRUE)
            self._owe("covered", f"{self.code.where(address)} lies on a path that was run", (), reached, at=address)
