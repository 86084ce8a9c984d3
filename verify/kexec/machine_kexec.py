"""Proof obligations of machine_kexec: how it leaves the kernel, and in which state (T6, part of T8)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import networkx
from kexec_verify.arm64.execute import UNDEFINED, Exit, Step
from kexec_verify.arm64.lift import SIZE, control_flow
from kexec_verify.arm64.state import (
    ICACHE_INVALID,
    SCTLR_C,
    SCTLR_M,
    Access,
    State,
    synced,
)
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.calls import (
    ENDS,
    Calls,
    objects,
    required_access,
    stack_obligations,
    without_doubles,
)
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.effects import effect_obligations, explored
from kexec_verify.kexec.locate import Function
from kexec_verify.kexec.low_memory import LOW, ROUTINE_PAGE, low_objects, required_load
from kexec_verify.kexec.machine_kexec_image import MachineKexecImage
from kexec_verify.kexec.selected_tables import SelectedTables
from kexec_verify.logic import FALSE, TRUE, And, Formula, Implies, Not, Or, Term, aligned, const, ule, var
from kexec_verify.obligation import Facts, Obligation, unreached
from kexec_verify.specs import boot_protocol, effects
from kexec_verify.specs.address_map import AddressMap, same_table
from kexec_verify.specs.contracts import Contract
from kexec_verify.specs.machine_kexec import Fields, calls_routine, restarts_image, restarts_routine
from kexec_verify.specs.relocate_kernel import done
from kexec_verify.symbolic.cutpoints import cuts, order_of
from kexec_verify.symbolic.explore import Decide, Explorer
from kexec_verify.symbolic.join import join
from kexec_verify.symbolic.loop_iterations import LoopIterations
from kexec_verify.symbolic.objects import SHADOW_CALL_STACK, STACK_FRAME
from kexec_verify.symbolic.segments import Segment

NAME = "machine_kexec"


@dataclass(frozen=True)
class Bug:
    """A BUG, or a WARN after which the kernel continues, and the branches that lead there."""

    kind: str
    at: int
    facts: Facts


@dataclass
class MachineKexec:
    """The proof of machine_kexec.

    :param through_routine: an image in place goes through the routine, which tests head itself.
    :param routine_by_restart: the routine is entered through the restart code, with the MMU off.
    :param routine: the relocation routine; before 5.12 machine_kexec copies it and flushes the image.
    :param segments: what was explored, cutpoint by cutpoint.
    :param ran: the state at the end of each path that was run, up to a cutpoint or an exit.
    """

    context: KexecContext
    decide: Decide
    through_routine: bool
    routine_by_restart: bool
    routine: Function | None = None
    obligations: list[Obligation] = field(default_factory=list)
    used: dict[str, tuple[int, Contract]] = field(default_factory=dict)
    bugs: list[Bug] = field(default_factory=list)
    exits: list[Step] = field(default_factory=list)
    covered: set[int] = field(default_factory=set)
    segments: list[Segment] = field(default_factory=list)
    ran: list[State] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.code = self.context.code(NAME)
        context = self.context
        early = self.routine is not None and self.routine.copied_at_last
        self.entry = context.entry(NAME, *([context.linear_map] if early else []))
        self.map: AddressMap = context.address_map(self.entry)
        self.kimage: Term = self.entry.registers["x0"]
        self.fields: Fields = context.fields(self.entry, self.kimage)
        memory = objects(self.entry)
        for item in () if early else low_objects(context, self.map, self.fields.kern_reloc):
            memory = memory.adding(item)
        self.entry = replace(self.entry, memory=memory)
        self.in_place: Formula = done(self.fields.head)
        self.tables = SelectedTables(context, self.map, self.entry, self.fields, self.code.where)
        self.image: MachineKexecImage | None = None
        if self.routine is not None and early:
            place, at = (context, self.map, self.entry, self.kimage), self.code.where
            self.image = MachineKexecImage(*place, self.routine, self.decide, at, self._iterated)

    def assumptions(self) -> Facts:
        """Return facts about the state in which machine_kexec is entered."""
        registers, context = self.entry.registers, self.context
        sctlr, on = registers["sctlr_el1"], SCTLR_M | SCTLR_C
        facts: Facts = (
            ("mmu-on", (sctlr & on) == on),
            ("kimage-aligned", And(aligned(self.kimage, 8), ule(self.kimage, const(-context.layout.size)))),
            ("stack-aligned", aligned(registers["sp"], 16)),
            ("t0sz-in-range", ule(self.fields.t0sz, const(0x3F))),
        )
        if "idmap_pg_dir" in context.globals:
            idmap = self.map.image_to_phys(context.globals["idmap_pg_dir"])
            facts = (*facts, ("image-in-memory", self.map.memory(idmap)))
        if "idmap_t0sz" in context.globals:
            facts = (*facts, ("t0sz-in-range", ule(self.tables.idmap_t0sz(), const(0x3F))))
        if self.image is not None:
            facts = (*facts, *self.image.assumptions())
        return facts

    def prove(self) -> None:
        """Run every path and add its obligations.

        :raises UnsupportedError: for code that the proof does not cover.
        """
        calls = Calls(
            self.context,
            self.code,
            decide=self.decide,
            leaving=self.context.restart,
            quiet=self.quiet,
            named=self.image.flush.named if self.image is not None else None,
        )
        loops = {cut.at: cut for cut in cuts(self.code)} if self.image is not None else {}
        order = order_of(self.code, control_flow(self.code))
        stops = sorted({*self._cutpoints(calls), *loops}, key=lambda at: order[at])
        explorer = Explorer(self.code, frozenset(stops), self.decide, (), "mk-", calls.leave, prune=True)
        start = self.entry.assume(*self.assumptions())
        self.segments = []
        ends = explored(explorer, start, self.code.address, self.segments, self.require_effects)
        for stop in stops:
            arrivals = [step.state for step in ends if step.then == stop]
            ends = [step for step in ends if step.then != stop]
            if not arrivals:
                continue
            for state in arrivals:
                self._require_accesses(state)
                self._require_arrival(stop, state)
            if stop in loops and self.image is not None:
                part, leaving = self.image.flush.loop(loops[stop], arrivals, explorer, calls)
                self.segments.append(part)
                ends += leaving
                continue
            tag = f"{stop:#x}"
            start = join(arrivals, tag)
            if self.image is not None and stop == stops[-1]:
                self.image.require_at(self.code.where(stop), arrivals, start)
            bound = ((start, tag),)
            ends += explored(explorer, start, stop, self.segments, self.require_effects, bound)
        if any(not isinstance(step.then, Exit) for step in ends):
            raise UnsupportedError("control that comes back to an earlier part of machine_kexec")
        self.obligations += [*explorer.obligations, *calls.obligations]
        self.used, self.covered = calls.used, explorer.covered
        self.bugs += [Bug("WARN", at, state.facts) for at, state in sorted(calls.warned.items())]
        for iteration in explorer.iterations:
            self._require_accesses(iteration)
        for step in ends:
            self._require_accesses(step.state)
            assert isinstance(step.then, Exit)
            if step.then.kind == "brk":
                self.require_brk(step)
            elif step.then.kind not in (ENDS, "undefined"):  # what ends there fails by itself
                self.exits.append(step)
                self.require_exit(step)
        for state in self.ran:
            self.require_effects(state)
        self._require_copies(calls)
        self.obligations += stack_obligations("mk-sp", self.code, self.entry, self.ran)
        self.obligations = without_doubles(self.obligations)
        undefined = any(event.name == UNDEFINED for state in self.ran for event in state.events)
        if not self.exits and not undefined:
            raise UnsupportedError("machine_kexec that calls neither the restart code nor the routine")

    @property
    def iterations(self) -> list[LoopIterations]:
        """Its loops, each described by the state at its head after any number of iterations."""
        return self.image.flush.iterations if self.image is not None else []

    @property
    def copied(self) -> list[tuple[int, int]]:
        """Copies of the image that it makes: start, and length in bytes."""
        return self.image.copied if self.image is not None else []

    def _require_copies(self, calls: Calls) -> None:
        """What it copies is the routine, or nothing where machine_kexec_post_load has copied that."""
        if self.image is None:
            for start, length, path in calls.copied:
                sentence = f"the {length} bytes from {start:#x} are not copied"
                self.obligations.append(Obligation("mk-store", sentence, (), FALSE, path[-1], path))
            return
        self.image.require_routine(calls.copied)
        # What a path leaves out, and how loops go on, carries the proofs about the image as well.
        own = [o for o in self.obligations if o.name == "mk-untaken"]
        self.obligations += [replace(required, name="pl-untaken") for required in own]
        self.obligations += self.image.obligations

    def quiet(self, state: State) -> Facts:
        """Return what ``machine-quiet`` says in ``state``: one CPU is online and none stuck, or a crash."""
        context, entry = self.context, self.entry
        crash = self.kimage == context.word(entry, "kexec_crash_image")
        # Events begin anew at a cutpoint: calls before it are those of the states that arrived there.
        events = [event for passed in (*self.ran, state) for event in passed.events]
        stuck = [var(f"x0@{e.tag}")[7:0] for e in events if e.name == "call cpus_are_stuck_in_kernel"]
        alone = [context.word(entry, "__num_online_cpus", 4) == 1, *(answer == 0 for answer in stuck)]
        return (("machine-quiet", Or(crash, And(*alone))),)

    def require_brk(self, step: Step) -> None:
        """Require that no quiet machine reaches a BUG, and that no machine reaches an unknown brk."""
        state, at = step.state, step.state.trace[-1]
        where = self.code.where(at)
        known = self.context.breaks.get(at) is not None
        self.bugs.append(Bug("BUG" if known else "brk that no table names", at, state.facts))
        sentence = f"the {'BUG' if known else 'brk, which no table names,'} at {where} is not reached"
        fault = "a BUG is reached" if known else "a brk is reached that no table names"
        further = self.quiet(state) if known else ()
        if known and self.image is not None:
            further = (*further, *self.image.flush.one_flag(state))
        self.obligations.append(unreached("mk-unreached", sentence, fault, state.facts, further, at, state))

    def require_effects(self, state: State) -> None:
        """Require that each system instruction on the path is one that machine_kexec may execute."""
        rules = effects.machine_kexec(self.tables.may_select)
        entry = self.entry.registers
        self.obligations += effect_obligations("mk-effect", self.code.where, state.events, rules, entry)

    def _cutpoints(self, calls: Calls) -> frozenset[int]:
        """Return the calls by assumed contract that every path to an exit passes, as cutpoints."""
        graph = control_flow(self.code)
        dominators = networkx.immediate_dominators(graph, self.code.address)
        leaving = [at for at in graph if self._leaves(at)]
        shared: set[int] | None = None
        for at in leaving:
            above = {at}
            while dominators.get(at) not in (None, at):
                at = dominators[at]
                above.add(at)
            shared = above if shared is None else shared & above
        found = set()
        for at in shared or ():
            target = self.code.at(at).call_target
            if target is None or target in self.code.final or self.code.enters(target):
                continue
            if calls.callee(target, at)[1].assumed:
                found.add(at + SIZE)
        return frozenset(found)

    def _leaves(self, at: int) -> bool:
        instruction = self.code.at(at)
        return "CALLIND" in instruction.opcodes or instruction.call_target in self.context.restart

    def _require(
        self,
        name: str,
        sentence: str,
        step: Step,
        goal: Formula,
        *further: tuple[str, Formula],
        fault: str = "",
    ) -> None:
        state = step.state
        at = state.trace[-1]
        facts = (*state.facts, *further)
        self.obligations.append(Obligation(f"mk-{name}", sentence, facts, goal, at, state.trace, fault=fault))

    def _require_accesses(self, state: State) -> None:
        self.ran.append(state)
        for access in state.accesses:
            item, _ = objects(access.before).find(access.address)
            if access.kind == "load" and item.name in LOW:
                self._require_low(access, item.name)
            else:
                self.obligations += required_access("mk", self.code.where, access, _own_frame)
            if self.image is not None:
                self.obligations += self.image.listed(access)

    def _require_low(self, access: Access, name: str) -> None:
        ttbr0 = access.before.registers["ttbr0_el1"]
        named = self.tables.is_own(ttbr0) if name == ROUTINE_PAGE else self.tables.is_idmap(ttbr0)
        self.obligations.append(required_load(self.code, access, name, named))

    def _iterated(self, state: State) -> None:
        """Add the obligations on an iteration of a loop."""
        self._require_accesses(state)
        self._require_arrival(state.trace[-1], state)

    def _require_arrival(self, stop: int, state: State) -> None:
        """Add the obligations on events before the cutpoint that exits have on their own path's events."""
        self._require_changes(state)
        asked = any(event.name == "call __hyp_set_vectors" for event in state.events)
        sentence = f"before {self.code.where(stop)} EL2 keeps its vectors"
        goal = FALSE if asked else TRUE
        name = "mk-inplace-vectors"
        self.obligations.append(Obligation(name, sentence, state.facts, goal, stop, state.trace))

    def require_exit(self, step: Step) -> None:
        state, where = step.state, self.code.where(step.state.trace[-1])
        assert isinstance(step.then, Exit)
        target, x = step.then.target, state.registers
        restart = self.map.image_to_phys(self.context.restart_address())
        stub = self.context.stub_below(self.entry)
        fields = self.fields
        if self.image is not None:
            self.image.require_exit(state, where)
            fields = self.image.fields(fields, state)
        image = And(target == restart, restarts_image(x, fields, stub))
        if self.routine_by_restart:
            routine = And(target == restart, restarts_routine(x, fields, stub))
        else:
            routine = calls_routine(x, target, self.fields)
        in_place = ("head has IND_DONE", self.in_place)
        copies = ("head has no IND_DONE", Not(self.in_place))
        self._require(
            "inplace-restart",
            f"at {where} PA(cpu_soft_restart) is called with el2_switch and, "
            + ("kern_reloc, head, start and dtb_mem" if self.through_routine else "start, dtb_mem, 0 and 0"),
            step,
            routine if self.through_routine else image,
            in_place,
        )
        self._require(
            "handover-routine", f"at {where} the routine is entered with the kimage", step, routine, copies
        )
        self._require_translation(step, where, in_place, copies)
        masked = boot_protocol.masked(x["daif"])
        self._require("masked", f"at {where} interrupts are masked", step, masked)
        kept = x["sctlr_el1"] == self.entry.registers["sctlr_el1"]
        self._require("sctlr-kept", f"at {where} SCTLR_EL1 is as it was", step, kept)
        self._require("synced", f"at {where} no context change awaits an ISB", step, synced(state.ghosts))
        if not self.routine_by_restart:
            self._require_vectors(step, where, stub, copies)
        invalid = (
            f"at {where} the instruction cache has been invalidated, and a DSB and an ISB have completed it"
        )
        stale = (
            "no completed I-cache invalidation before this exit: "
            "stale instructions of the new image are possible"
        )
        if self.through_routine:
            sentence = f"{where} enters the routine, which invalidates the instruction cache"
            self._require("icache-invalid", sentence, step, routine, in_place)
        else:
            done = state.ghosts["icache"] == ICACHE_INVALID
            self._require("icache-invalid", invalid, step, done, in_place, fault=stale)

    def _require_translation(
        self, step: Step, where: str, in_place: tuple[str, Formula], copies: tuple[str, Formula]
    ) -> None:
        """Require TTBR0 and TCR_EL1.T0SZ at the exit, and the order in which they were set."""
        state, sentence = step.state, f"at {where} TTBR0 names the idmap and TCR.T0SZ fits it"
        on_idmap = self.tables.on_idmap(state)
        self._require("idmap", sentence, step, on_idmap, in_place)
        if self.routine_by_restart:
            self._require("handover-idmap", sentence, step, on_idmap, copies)
        else:
            what = f"at {where} TTBR0 names the kimage's own table and TCR.T0SZ fits it"
            self._require("handover-ttbr0", what, step, self.tables.on_own(state), copies)
        table = same_table(state.registers["ttbr1_el1"], self.entry.registers["ttbr1_el1"])
        self._require("ttbr1-kept", f"at {where} TTBR1 names the table that it named", step, table)
        self._require_changes(state)

    def _require_changes(self, state: State) -> None:
        for event in state.events:
            if event.name in ("msr ttbr0_el1", "msr tcr_el1") or event.name == "call cpu_do_switch_mm":
                self.obligations.append(self.tables.ordered(event))

    def _require_vectors(self, step: Step, where: str, stub: Formula, copies: tuple[str, Formula]) -> None:
        """Require that the routine's HVC reaches the copied vectors, and is made only if the stub is
        installed.
        """
        calls = [e for e in step.state.events if e.name == "call __hyp_set_vectors"]
        asked: Formula = FALSE
        if len(calls) == 1:
            asked = And(stub, calls[0].before.registers["x0"] == self.fields.el2_vectors)
        goal = asked if calls else Not(stub)
        sentence = f"before {where} EL2 was given the kimage's vectors if the hyp stub is below"
        self._require("handover-vectors", sentence, step, goal, copies)
        none = Implies(self.in_place, TRUE if not calls else FALSE)
        self._require("inplace-vectors", f"before {where} EL2 keeps its vectors in place", step, none)


def _own_frame(name: str) -> Formula:
    """machine_kexec stores to its own frame alone, and pushes its return address."""
    return TRUE if name in (STACK_FRAME, SHADOW_CALL_STACK) else FALSE
