"""Proof obligations of machine_kexec_post_load: what it flushes, copies and prepares (T7)."""

from __future__ import annotations

from dataclasses import dataclass, field

from kexec_verify.arm64.execute import Exit, Step
from kexec_verify.arm64.lift import Code
from kexec_verify.arm64.state import SCTLR_C, SCTLR_M, SYSTEM, Access, Event, State
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.calls import (
    CONTROL_PAGE,
    ENDS,
    Calls,
    is_left_by_callee,
    objects,
    required_access,
    stack_obligations,
    without_doubles,
)
from kexec_verify.kexec.choices import MEANING, protects_guests, with_keys
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.effects import effect_obligations, explored
from kexec_verify.kexec.image_flush import ImageFlush
from kexec_verify.kexec.locate import Function
from kexec_verify.kexec.machine_kexec import Bug
from kexec_verify.kexec.prepared import Preparation
from kexec_verify.logic import FALSE, TRUE, And, Formula, Not, Term, aligned, const, constant, ule, var
from kexec_verify.memory import WORD_BYTES
from kexec_verify.obligation import Facts, Obligation, unreached
from kexec_verify.specs.address_map import AddressMap, kernel_addresses
from kexec_verify.specs.contracts import Contract, contract
from kexec_verify.specs.effects import MACHINE_KEXEC_POST_LOAD
from kexec_verify.symbolic.cutpoints import cuts
from kexec_verify.symbolic.detours import JOINED
from kexec_verify.symbolic.explore import Decide, Explorer
from kexec_verify.symbolic.loop_iterations import LoopIterations
from kexec_verify.symbolic.objects import SHADOW_CALL_STACK, STACK_FRAME
from kexec_verify.symbolic.segments import Segment as Part

NAME = "machine_kexec_post_load"


@dataclass
class PostLoad:
    """The proof of machine_kexec_post_load.

    :param routine: the relocation routine, as the kernel has it.
    :param through_routine: an image in place goes through the routine, so it is copied then too.
    :param mmu_on: the routine runs with the MMU on, on page tables that are built here.
    :param both: static keys are proved both ways.
    :param segments: what was explored, cutpoint by cutpoint.
    :param ran: the state at the end of each path that was run, up to a cutpoint or an exit.
    """

    context: KexecContext
    decide: Decide
    routine: Function
    through_routine: bool
    mmu_on: bool
    both: bool = False
    obligations: list[Obligation] = field(default_factory=list)
    used: dict[str, tuple[int, Contract]] = field(default_factory=dict)
    bugs: list[Bug] = field(default_factory=list)
    covered: set[int] = field(default_factory=set)
    segments: list[Part] = field(default_factory=list)
    ran: list[State] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.code: Code = self.context.code(NAME)
        self.keys: dict[int, str] = {}
        if self.both:
            self.code, self.keys = with_keys(self.context.kernel, self.code)
        self.entry: State = self.context.entry(NAME)
        self.map: AddressMap = self.context.address_map(self.entry)
        self.kimage: Term = self.entry.registers["x0"]
        self.image = ImageFlush(
            self.context,
            self.map,
            self.entry,
            self.kimage,
            self.mmu_on,
            self.decide,
            self.code.where,
            self._require_accesses,
        )
        self.copied: list[tuple[int, int]] = []
        # Words of struct kimage. A callee that changes one later hides the store, so it is not excused.
        self._own_stores: set[int] = set()
        self.in_place: Formula = self.image.in_place
        # Before 5.12 machine_kexec does what must be done to image and routine.
        self.prepares = not self.routine.copied_at_last
        self.preparation = Preparation(
            self.context, self.map, self.entry, self.kimage, self.routine, self.mmu_on, self.image.require
        )

    def assumptions(self) -> Facts:
        """Return facts about the state in which machine_kexec_post_load is entered."""
        registers, context = self.entry.registers, self.context
        sctlr, on = registers["sctlr_el1"], SCTLR_M | SCTLR_C
        return (
            ("mmu-on", And((sctlr & on) == on, kernel_addresses(registers["tcr_el1"]))),
            ("kimage-aligned", And(aligned(self.kimage, 8), ule(self.kimage, const(-context.layout.size)))),
            ("kimage-in-linear-map", self.map.in_linear_map(self.kimage)),
            ("stack-aligned", aligned(registers["sp"], 16)),
            *self.image.assumptions(),
        )

    def prove(self) -> None:
        """Run every path and add its obligations.

        :raises UnsupportedError: for code that the proof does not cover.
        """
        calls = Calls(
            self.context, self.code, named=self.image.named, own=self._may_store, decide=self.decide
        )
        heads = cuts(self.code)
        stops = frozenset(cut.at for cut in heads)
        explorer = Explorer(self.code, stops, self.decide, (), "pl-", calls.leave, prune=True)
        explorer.chosen, explorer.harmless = self._chosen, _prints
        start = self.entry.assume(*self.assumptions())
        self.segments = []
        ends = explored(explorer, start, self.code.address, self.segments, self.require_effects)
        for cut in heads:
            arrivals = [step.state for step in ends if step.then == cut.at]
            ends = [step for step in ends if step.then != cut.at]
            if not arrivals:
                continue
            for state in arrivals:
                self._require_accesses(state)
            part, leaving = self.image.loop(cut, arrivals, explorer, calls)
            self.segments.append(part)
            ends += leaving
        self.obligations += [*explorer.obligations, *calls.obligations]
        self.used, self.covered = calls.used, explorer.covered
        self.bugs += [Bug("WARN", at, state.facts) for at, state in sorted(calls.warned.items())]
        for step in ends:
            self._require_accesses(step.state)
            leaves = step.then
            if isinstance(leaves, Exit) and leaves.kind == "brk":
                self.require_brk(step)
            elif isinstance(leaves, Exit) and leaves.kind == "ret":
                self.require_return(step, leaves)
            elif isinstance(leaves, Exit) and leaves.kind in (ENDS, JOINED, "undefined"):
                continue  # what ends there fails by itself, or another path goes on for it
            else:
                raise UnsupportedError(f"{NAME} that ends in no return", step.state.trace[-1])
        self.copied = sorted({(start, length) for start, length, _ in calls.copied})
        if self.prepares:
            self.preparation.require_routine(calls.copied)
        for state in self.ran:
            self.require_effects(state)
        self.obligations += stack_obligations("pl-sp", self.code, self.entry, self.ran)
        self.obligations += [*self.image.obligations, *self.preparation.obligations]
        self.obligations = without_doubles(self.obligations)

    @property
    def iterations(self) -> list[LoopIterations]:
        """Its loops, each described by the state at its head after any number of iterations."""
        return self.image.iterations

    def _chosen(self, at: int, is_set: bool) -> Facts:
        """Return what is known where the static key is set, or not, that decides at ``at``."""
        protects = is_set and protects_guests(frozenset({self.keys[at]}))
        return ((MEANING, self.context.stub_below(self.entry)),) if protects else ()

    def require_effects(self, state: State) -> None:
        """Require that each system instruction is one that machine_kexec_post_load may execute."""
        entry, rules = self.entry.registers, MACHINE_KEXEC_POST_LOAD
        self.obligations += effect_obligations("pl-effect", self.code.where, state.events, rules, entry)

    def require_brk(self, step: Step) -> None:
        """Require that no brk is reached; a BUG on a word's flags is excluded by W2, one flag for each
        word.
        """
        state, at = step.state, step.state.trace[-1]
        known = self.context.breaks.get(at) is not None
        self.bugs.append(Bug("BUG" if known else "brk that no table names", at, state.facts))
        sentence = (
            f"the {'BUG' if known else 'brk, which no table names,'} at {self.code.where(at)} is not reached"
        )
        fault = "a BUG is reached" if known else "a brk is reached that no table names"
        further = self.image.one_flag(state) if known else ()
        self.obligations.append(unreached("pl-unreached", sentence, fault, state.facts, further, at, state))

    def _require_accesses(self, state: State) -> None:
        self.ran.append(state)
        for access in state.accesses:
            self.obligations += required_access("pl", self.code.where, access, self._may_store)
            if access.kind == "store":
                self._note_store(access)

    def _note_store(self, access: Access) -> None:
        item, offset = objects(access.before).find(access.address)
        place = constant(offset)
        if item.name == "kimage" and place is not None:
            self._own_stores |= {place & -WORD_BYTES, (place + access.size - 1) & -WORD_BYTES}

    def _may_store(self, name: str) -> Formula | None:
        """Return when it may store to the object: its own frame always; the kimage unless the image is in
        place.
        """
        if name == "kimage":
            return TRUE if self.through_routine else Not(self.in_place)
        return TRUE if name in (STACK_FRAME, SHADOW_CALL_STACK) else FALSE

    def _require_kimage(self, state: State, where: str) -> None:
        """Require that struct kimage is unchanged, whatever is returned, except in the fields to be set."""
        layout = self.context.layout
        may_set = {getattr(layout, name) for name in _LOADED if name != "dtb_mem"}
        stored = {at & -8 for at in objects(state).stored_in("kimage")} - may_set
        sentence = f"at {where} struct kimage is as it was, except kern_reloc and what the routine needs"
        before, after = self.entry, state
        words = {at: self.context.field(after, self.kimage, at) for at in sorted(stored)}
        kept = And(
            *(
                word == self.context.field(before, self.kimage, at)
                for at, word in words.items()
                if at in self._own_stores or not is_left_by_callee(word, at)
            )
        )
        self.image.require("kimage-kept", sentence, state, kept)

    def _require_errors(self, state: State, where: str, succeeds: tuple[str, Formula]) -> None:
        """Require that no callee has failed if 0 is returned."""
        for event in state.events:
            name = event.name.removeprefix("call ")
            found = contract(name) if name != event.name else None
            if found is not None and found.fails:
                sentence = f"at {where} it returns 0 only if {name} did"
                goal = var(f"x0@{event.tag}")[31:0] == 0
                self.image.require("errors", sentence, state, goal, succeeds)

    def require_return(self, step: Step, leaves: Exit) -> None:
        state, where = step.state, self.code.where(step.state.trace[-1])
        back = leaves.target == self.entry.registers["x30"]
        self.image.require("returns", f"at {where} it returns to its caller", state, back)
        kept = (*(f"x{i}" for i in range(19, 30)), "sp")
        named = "SP and x19 to x29"
        if self.context.shadow_calls:
            kept, named = (*kept, "x18"), "SP, x18 and x19 to x29"
        unchanged = And(*(state.registers[n] == self.entry.registers[n] for n in kept))
        self.image.require(
            "returns", f"at {where} {named} are as they were (AAPCS64, 6.1.1)", state, unchanged
        )
        same = And(*(state.registers[n] == self.entry.registers[n] for n in SYSTEM))
        self.image.require("returns", f"at {where} every system register is as it was", state, same)
        self._require_kimage(state, where)
        result = state.registers["x0"][31:0]
        in_place = ("head has IND_DONE", self.in_place)
        succeeds = ("it returns 0", result == 0)
        page = next((item.base for item in objects(state).objects if item.name == CONTROL_PAGE), None)
        if self.prepares:
            self.image.require_list(state, where, page, succeeds)
            self.image.require_segments(state, where, page, in_place)
        self.image.require(
            "inplace-result",
            f"at {where} post_load returns 0 for an image in place",
            state,
            result == 0,
            in_place,
        )
        copies = [e for e in state.events if e.name.removeprefix("call ") in _COPIES]
        if not self.through_routine:
            uncopied = TRUE if not copies else FALSE
            self.image.require(
                "inplace-copies-nothing", f"before {where} nothing was copied", state, uncopied, in_place
            )
        self._require_errors(state, where, succeeds)
        if not self.prepares:
            return
        prepared = (
            (succeeds,) if self.through_routine else (succeeds, ("head has no IND_DONE", Not(self.in_place)))
        )
        self.preparation.require_return(state, where, prepared)


def _prints(event: Event) -> bool:
    """The event is a call of a function that prints."""
    found = contract(event.name.removeprefix("call "))
    return event.name.startswith("call ") and found is not None and found.prints


_LOADED = ("dtb_mem", "kern_reloc", "el2_vectors", "ttbr0", "ttbr1", "zero_page", "phys_offset", "t0sz")
_COPIES = ("memcpy", "__memcpy", "__pi_memcpy", "memmove", "__memmove")
