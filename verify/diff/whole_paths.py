"""Build one kernel's whole kexec path, from machine_kexec to the next kernel, from its functions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from kexec_verify.arm64.execute import Exit, Step
from kexec_verify.arm64.state import GENERAL, Access, State
from kexec_verify.diff.rename import Renamer
from kexec_verify.diff.side import Side
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.abi_variant import ENTRY_MEMORY
from kexec_verify.kexec.machine_kexec import MachineKexec
from kexec_verify.kexec.soft_restart import SoftRestart
from kexec_verify.logic import FALSE, And, Formula, Not, Or, Term, const, same, var
from kexec_verify.obligation import Facts, Obligation
from kexec_verify.prove.discharge import decide
from kexec_verify.specs import boot_protocol
from kexec_verify.specs.hyp_stub import HVC_SOFT_RESTART
from kexec_verify.specs.machine_kexec import Fields
from kexec_verify.symbolic.explore import Explorer

ARGUMENTS = ("x0", "x1", "x2", "x3")
_STUB_MOVES = {"x0": "x2", "x1": "x3", "x2": "x4", "x3": "x3"}
"""Where HVC_SOFT_RESTART takes the entry's arguments from; stub-soft-restart proves it."""


@dataclass(frozen=True)
class End:
    """How control reaches what runs next.

    :param via: ``EL1``, or ``EL2`` where the stub makes the last step or one before it.
    :param icache: what the instruction cache may hold, on each of the paths.
    :param legs: names of the functions on the path.
    """

    facts: Facts
    via: str
    target: Term
    x: dict[str, Term]
    sctlr: Term
    daif: Term
    icache: tuple[Term, ...]
    legs: tuple[str, ...]
    states: tuple[State, ...] = field(default=(), repr=False)

    @property
    def accesses(self) -> list[Access]:
        """Return the loads and stores on the path, from the last point at which paths were joined."""
        return [access for state in self.states for access in state.accesses]


@dataclass
class WholePath:
    """One kernel's paths to the end in one case.

    :param case: what is so of the kimage, in words and as a formula.
    :param stuck: in words, ways that do not lead to an end.
    """

    side: Side
    mk: MachineKexec
    restart: SoftRestart | None
    case: tuple[str, Formula]
    ends: list[End] = field(default_factory=list)
    obligations: list[Obligation] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    handed: list[tuple[Facts, State]] = field(default_factory=list)

    def compose(self) -> None:
        """Follow each path out of machine_kexec to the entry of the next kernel."""
        for step in self.mk.exits:
            assert isinstance(step.then, Exit)
            if self._excluded(step.state, f"machine_kexec is not left at {self._at(step.state)}"):
                continue
            state = step.state.assume(self.case)
            restart = self.restart
            if restart is not None and self._goes(state, step.then.target, self._restart_pa(restart)):
                self._restarted(restart, state)
            else:
                self._arrive(state, step.then.target, "EL1", ("machine_kexec",))
        self.ends = merged(self.ends)

    def _at(self, state: State) -> str:
        return self.side.places.name(state.trace[-1])

    def _restart_pa(self, restart: SoftRestart) -> Term:
        return self.mk.map.image_to_phys(restart.code.address)

    def require(self, name: str, sentence: str, facts: Facts, goal: Formula) -> None:
        """Add an obligation of this kernel's own."""
        shown = f"{self.side.label}: {sentence}"
        self.obligations.append(Obligation(f"diff-{name}", shown, facts, goal))

    def _excluded(self, state: State, sentence: str) -> bool:
        """Return whether the path belongs to the other case; if so, add an obligation that says so."""
        goal = Not(self.case[1])
        if not decide(state.facts, goal):
            return False
        self.require("case", f"{sentence} where {self.case[0]}", state.facts, goal)
        return True

    def _goes(self, state: State, target: Term, place: Term) -> bool:
        goal = target == place
        if not decide(state.facts, goal):
            return False
        self.require("leg", f"from {self._at(state)} control goes where it is followed", state.facts, goal)
        return True

    def _restarted(self, restart: SoftRestart, state: State) -> None:
        little = (state.registers["sctlr_el1"] & boot_protocol.SCTLR_EE) == 0
        start = replace(state.assume(("little-endian", little)), trace=(), accesses=(), events=())
        legs = ("machine_kexec", restart.code.name)
        explorer = Explorer(restart.code, frozenset(), decide)
        for step in explorer.run(start, restart.code.address):
            calls = [event for event in step.state.events if event.name == "CallHyperVisor"]
            if calls:
                # The stub does not return from it: what follows is for an EL2 that refuses.
                event = calls[0]
                before = replace(event.before, facts=event.before.facts[: event.known])
                if not _possible(before.facts):
                    continue
                asks = before.registers["x0"] == HVC_SOFT_RESTART
                self.require("hvc", f"{restart.code.name} asks for HVC_SOFT_RESTART", before.facts, asks)
                moved = {name: before.registers[origin] for name, origin in _STUB_MOVES.items()}
                lost = {n: var(f"{n}@stub") for n in GENERAL if n not in moved}
                after = before.with_registers(**moved, **lost)
                after = replace(after, events=step.state.events[: step.state.events.index(event) + 1])
                self._arrive(after, before.registers["x1"], "EL2", (*legs, "the hyp stub"), state)
            elif isinstance(step.then, Exit) and step.then.kind == "br":
                if _possible(step.state.facts):
                    self._arrive(step.state, step.then.target, "EL1", legs, state)
            else:
                self.stuck.append(f"{restart.code.name} ends in no branch at {self._at(step.state)}")

    def _arrive(self, state: State, target: Term, via: str, legs: tuple[str, ...], *earlier: State) -> None:
        """Continue where control has left the kernel for ``target``: the routine's copy, or the next
        kernel.
        """
        fields = passed(self.mk)
        if not decide(state.facts, target == fields.kern_reloc):
            self._end(state, state.facts, target, via, legs, (*earlier, state))
            return
        self.require(
            "leg", "control goes to kimage->arch.kern_reloc", state.facts, target == fields.kern_reloc
        )
        self.handed.append((state.facts, state))
        legs = (*legs, self.side.routine.name)
        if self.case[0] == IN_PLACE:
            self._past_the_loop(state, via, legs, earlier)
        else:
            self._behind_the_loop(state, via, legs, earlier)

    def _past_the_loop(
        self, state: State, via: str, legs: tuple[str, ...], earlier: tuple[State, ...]
    ) -> None:
        """Continue in the routine, entered with a head that has IND_DONE."""
        variant, code = self.side.variant, self.side.code
        if variant is None:
            self.stuck.append("the routine's form was not recognised")
            return
        start = replace(state, trace=(), accesses=(), events=())
        before = Explorer(code, frozenset({variant.loop, *variant.exits}), decide)
        for step in before.run(start, code.address):
            if step.then == variant.loop:
                facts = tuple(fact for fact in step.state.facts if fact is not self.case)
                goal = Not(self.case[1])
                if decide(facts, goal):
                    self.require(
                        "case", f"the loop over the list is not entered where {IN_PLACE}", facts, goal
                    )
                else:
                    self.stuck.append(f"the routine enters its loop over the list where {IN_PLACE}")
                continue
            leaving = [step] if isinstance(step.then, Exit) else []
            if not leaving and isinstance(step.then, int):
                leaving = Explorer(code, frozenset(), decide).run(step.state, step.then)
            for last in leaving:
                self._left(last, last.state, last.state.facts, via, legs, (*earlier, state))

    def _behind_the_loop(
        self, state: State, via: str, legs: tuple[str, ...], earlier: tuple[State, ...]
    ) -> None:
        """Continue at the routine's exits, proved for any list, with its arguments as given."""
        parts = self.side.parts
        if parts is None:
            self.stuck.append("the routine's paths were not run")
            return
        instead = {f"{name}@entry": value for name, value in state.registers.items() if name != "ctr_el0"}
        functions = {ENTRY_MEMORY: lambda address: state.memory.load(address, 8)}
        renamer = Renamer("", instead, functions)
        for label, fact in parts.routine.assumptions():
            if label in _HANDED_OVER:
                goal = renamer.term(fact)
                self.require("handover", f"{label} when the routine is entered", state.facts, goal)
        for step in parts.exits:
            registers = {n: renamer.term(value) for n, value in step.state.registers.items()}
            ghosts = {n: renamer.term(value) for n, value in step.state.ghosts.items()}
            facts = (*state.facts, *renamer.facts(step.state.facts))
            after = replace(step.state, registers=registers, ghosts=ghosts)
            known = {id(event): event.known for event in step.state.events}
            calls = [event for event in step.state.events if event.name == "CallHyperVisor"]
            if calls:
                before = calls[0].before
                registers = {n: renamer.term(value) for n, value in before.registers.items()}
                ghosts = {n: renamer.term(value) for n, value in before.ghosts.items()}
                asked = replace(before, registers=registers, ghosts=ghosts)
                path = renamer.facts(before.facts[: known[id(calls[0])]])
                self._hvc(asked, (*state.facts, *path), legs, (*earlier, state, step.state))
            else:
                target = renamer.term(step.then.target) if isinstance(step.then, Exit) else const(0)
                moved = Step(after, Exit("br", target))
                self._left(moved, after, facts, via, legs, (*earlier, state))

    def _hvc(self, state: State, facts: Facts, legs: tuple[str, ...], states: tuple[State, ...]) -> None:
        asks = state.registers["x0"] == HVC_SOFT_RESTART
        self.require("hvc", "the routine asks for HVC_SOFT_RESTART", facts, asks)
        moved = {name: state.registers[origin] for name, origin in _STUB_MOVES.items()}
        after = state.with_registers(**moved)
        self._end(after, facts, state.registers["x1"], "EL2", (*legs, "the copied vectors"), states)

    def _left(
        self,
        step: Step,
        state: State,
        facts: Facts,
        via: str,
        legs: tuple[str, ...],
        states: tuple[State, ...],
    ) -> None:
        if isinstance(step.then, Exit) and step.then.kind == "br":
            self._end(state, facts, step.then.target, via, legs, (*states, state))
        else:
            self.stuck.append("the routine ends in no branch")

    def _end(
        self,
        state: State,
        facts: Facts,
        target: Term,
        via: str,
        legs: tuple[str, ...],
        states: tuple[State, ...],
    ) -> None:
        x = {name: state.registers[name] for name in ARGUMENTS}
        r = state.registers
        icache = (state.ghosts["icache"],)
        self.ends.append(End(facts, via, target, x, r["sctlr_el1"], r["daif"], icache, legs, states))


IN_PLACE = "head has IND_DONE"
RELOCATED = "head has no IND_DONE"
_HANDED_OVER = ("daif-masked", "mmu-off", "mmu-on")


def passed(mk: MachineKexec) -> Fields:
    """The fields of struct kimage; before 5.12 with the address of the control page for kern_reloc."""
    return mk.image.fields(mk.fields, mk.exits[-1].state) if mk.image is not None and mk.exits else mk.fields


def whole_paths(side: Side) -> dict[str, WholePath]:
    """Return the paths of each case, by its name.

    :raises UnsupportedError: where machine_kexec or the restart code could not be run.
    """
    if side.mk is None:
        raise UnsupportedError(f"{side.label}: machine_kexec: {side.troubles['machine_kexec']}")
    made = {}
    for name, formula in ((IN_PLACE, side.mk.in_place), (RELOCATED, Not(side.mk.in_place))):
        whole_path = WholePath(side, side.mk, side.restart, (name, formula))
        whole_path.compose()
        made[name] = whole_path
    return made


def _possible(facts: Facts) -> bool:
    """Return whether the path is not plainly contradictory; a path that is has no run at all."""
    return not any(fact.is_false() for _, fact in facts)


def merged(ends: list[End]) -> list[End]:
    """Return one end for all that differ only in their paths; it is reached on any of those."""
    groups: list[list[End]] = []
    for end in ends:
        for group in groups:
            if _alike(group[0], end):
                group.append(end)
                break
        else:
            groups.append([end])
    return [_merge(group) for group in groups]


def _alike(left: End, right: End) -> bool:
    terms = [(left.target, right.target), (left.sctlr, right.sctlr), (left.daif, right.daif)]
    terms += [(left.x[name], right.x[name]) for name in ARGUMENTS]
    return left.via == right.via and left.legs == right.legs and all(same(a, b) for a, b in terms)


def _merge(group: list[End]) -> End:
    first = group[0]
    keys = [{fact.hash() for _, fact in end.facts} for end in group]
    common = set.intersection(*keys)
    facts = tuple((label, fact) for label, fact in first.facts if fact.hash() in common)
    paths = [And(*(fact for _, fact in end.facts if fact.hash() not in common)) for end in group]
    path = Or(*paths) if paths else FALSE
    states = tuple(state for end in group for state in end.states)
    icache = tuple({term.hash(): term for end in group for term in end.icache}.values())
    facts = (*facts, ("one of the paths is taken", path))
    return replace(first, facts=facts, states=states, icache=icache)
