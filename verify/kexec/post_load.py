"""Proof obligations of machine_kexec_post_load: what it flushes, copies and prepares (T7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from kexec_verify.arm64 import cache
from kexec_verify.arm64.execute import Exit, Step
from kexec_verify.arm64.lift import Code, loops
from kexec_verify.arm64.state import SCTLR_C, SCTLR_M, SYSTEM, Access, State
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
from kexec_verify.kexec.context import FRAME_BYTES, KexecContext
from kexec_verify.kexec.effects import effect_obligations, explored
from kexec_verify.kexec.list_flush import CLEAN as LIST_CLEAN
from kexec_verify.kexec.list_flush import ListFlush, follows_list, speaks_of_list
from kexec_verify.kexec.locate import Function
from kexec_verify.kexec.machine_kexec import Bug
from kexec_verify.kexec.prepared import Preparation
from kexec_verify.logic import (
    FALSE,
    TRUE,
    And,
    Formula,
    Implies,
    Not,
    Or,
    Term,
    aligned,
    const,
    constant,
    normal,
    same,
    ule,
    ult,
    var,
    variables,
    within,
)
from kexec_verify.memory import WORD_BYTES
from kexec_verify.obligation import Facts, Obligation, unreached
from kexec_verify.specs.address_map import AddressMap
from kexec_verify.specs.contracts import Contract, contract
from kexec_verify.specs.effects import MACHINE_KEXEC_POST_LOAD
from kexec_verify.specs.kimage import (
    KEXEC_SEGMENT_MAX,
    SEGMENT_BYTES,
    SEGMENT_MEM,
    SEGMENT_MEMSZ,
    one_flag,
)
from kexec_verify.specs.machine_kexec_post_load import Segment
from kexec_verify.specs.relocate_kernel import done
from kexec_verify.symbolic.explore import ANYWHERE, Decide, Explorer
from kexec_verify.symbolic.loop_iterations import Candidates, LoopIterations, Run, infer_iterations
from kexec_verify.symbolic.objects import SHADOW_CALL_STACK, STACK_FRAME
from kexec_verify.symbolic.segments import Segment as Part

NAME = "machine_kexec_post_load"
_CLEAN = "earlier segments are clean"
_SEGMENT = var("segment")
"""An arbitrary index of a segment: what holds of it holds of every segment."""


@dataclass
class PostLoad:
    """The proof of machine_kexec_post_load.

    :param routine: the relocation routine, as the kernel has it.
    :param through_routine: an image in place goes through the routine, so it is copied then too.
    :param mmu_on: the routine runs with the MMU on, on page tables that are built here.
    :param segments: what was explored, cutpoint by cutpoint.
    :param iterations: its loops, each described by the state at its head after any number of iterations.
    :param ran: the state at the end of each path that was run, up to a cutpoint or an exit.
    """

    context: KexecContext
    decide: Decide
    routine: Function
    through_routine: bool
    mmu_on: bool
    obligations: list[Obligation] = field(default_factory=list)
    used: dict[str, tuple[int, Contract]] = field(default_factory=dict)
    bugs: list[Bug] = field(default_factory=list)
    covered: set[int] = field(default_factory=set)
    segments: list[Part] = field(default_factory=list)
    iterations: list[LoopIterations] = field(default_factory=list)
    ran: list[State] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.code: Code = self.context.code(NAME)
        self.entry: State = self.context.entry(NAME)
        self.map: AddressMap = self.context.address_map(self.entry)
        self.kimage: Term = self.entry.registers["x0"]
        layout = self.context.layout
        head = self.context.field(self.entry, self.kimage, layout.head)
        # A routine that runs with the MMU off reads list and source pages at the point of coherency.
        self.flush = None if self.mmu_on else ListFlush(self.kimage, head, self.map, self.context.page_size)
        self.copied: list[tuple[int, int]] = []
        # Words of struct kimage. A callee that changes one later hides the store, so it is not excused.
        self._own_stores: set[int] = set()
        self._counts: tuple[Term, ...] = ()
        self.in_place: Formula = done(head)
        self.nr_segments: Term = self.context.field(self.entry, self.kimage, layout.nr_segments)
        self.preparation = Preparation(
            self.context, self.map, self.entry, self.kimage, self.routine, self.mmu_on, self._require
        )

    def segment(self, index: Term) -> Segment:
        """Return kimage->segment[index]."""
        start = self.kimage + self.context.layout.segment + index * SEGMENT_BYTES
        memory = self.entry.memory
        return Segment(memory.load(start + SEGMENT_MEM, 8), memory.load(start + SEGMENT_MEMSZ, 8))

    def assumptions(self) -> Facts:
        """Return facts about the state in which machine_kexec_post_load is entered."""
        registers, context = self.entry.registers, self.context
        sctlr, on = registers["sctlr_el1"], SCTLR_M | SCTLR_C
        frame = within(ANYWHERE, registers["sp"] - FRAME_BYTES, FRAME_BYTES)
        kimage = within(ANYWHERE, self.kimage, context.layout.size)
        asked = self.segment(_SEGMENT)
        return (
            ("mmu-on", (sctlr & on) == on),
            ("kimage-aligned", And(aligned(self.kimage, 8), ule(self.kimage, const(-context.layout.size)))),
            ("kimage-in-linear-map", self.map.in_linear_map(self.kimage)),
            ("stack-aligned", aligned(registers["sp"], 16)),
            ("nr-segments", ule(self.nr_segments, const(KEXEC_SEGMENT_MAX))),
            ("segments-in-memory", Implies(ult(_SEGMENT, self.nr_segments), asked.in_memory(self.map))),
            (
                "segments-apart",
                Implies(And(self.in_place, asked.holds(self.map, ANYWHERE)), Not(Or(frame, kimage))),
            ),
            ("nothing-lost", self.entry.lines.read(ANYWHERE) != cache.LOST),
            *(self.flush.start() if self.flush is not None else ()),
        )

    def each_segment(self, above: Term) -> Facts:
        """Return what is assumed of an arbitrary segment; the linear map covers it from ``above`` on."""
        found: Facts = ()
        for number in range(KEXEC_SEGMENT_MAX):
            index = const(number)
            asked, exists = self.segment(index), ult(index, self.nr_segments)
            clear = ule(above, normal(self.map.phys_to_linear(asked.mem)))
            found = (
                *found,
                ("segments-in-memory", Implies(exists, asked.in_memory(self.map))),
                ("segments-apart", Implies(exists, clear)),
            )
        return found

    def prove(self) -> None:
        """Run every path and add its obligations.

        :raises UnsupportedError: for code that the proof does not cover.
        """
        calls = Calls(self.context, self.code, named=self._named, own=self._may_store, decide=self.decide)
        heads = [loop.head for loop in loops(self.code)]
        explorer = Explorer(self.code, frozenset(heads), self.decide, (), "pl-", calls.leave, prune=True)
        start = self.entry.assume(*self.assumptions())
        self.segments = []
        ends = explored(explorer, start, self.code.address, self.segments, self.require_effects)
        for head in heads:
            arrivals = [step.state for step in ends if step.then == head]
            ends = [step for step in ends if step.then != head]
            if not arrivals:
                continue
            for state in arrivals:
                self._require_accesses(state)
            iterations, paths = infer_iterations(
                head,
                arrivals,
                self._runner(explorer, calls, head),
                self._candidates,
                self.decide,
                self.context.page_size,
                self._in_memory,
                self._assumed,
            )
            self._counts = (*self._counts, iterations.count)
            self.iterations.append(iterations)
            self.segments.append(iterations.segment(paths))
            self._require_iterations(iterations, arrivals, [step for step in paths if step.then == head])
            ends += [step for step in paths if step.then != head]
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
            elif isinstance(leaves, Exit) and leaves.kind in (ENDS, "undefined"):
                continue  # what ends there fails by itself
            else:
                raise UnsupportedError(f"{NAME} that ends in no return", step.state.trace[-1])
        self.copied = sorted({(start, length) for start, length, _ in calls.copied})
        self.preparation.require_routine(calls.copied)
        for state in self.ran:
            self.require_effects(state)
        self.obligations += stack_obligations("pl-sp", self.code, self.entry, self.ran)
        self.obligations += self.preparation.obligations
        self.obligations = without_doubles(self.obligations)

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
        further = self._one_flag(state) if known else ()
        self.obligations.append(unreached("pl-unreached", sentence, fault, state.facts, further, at, state))

    def _one_flag(self, state: State) -> Facts:
        """Return what is assumed of the flags of the list entries that ``state`` has read."""
        return tuple(("list-one-flag", one_flag(word)) for word in self._words(state))

    @staticmethod
    def _runner(explorer: Explorer, calls: Calls, head: int) -> Run:
        """Return a function that runs paths from ``head``, dropping the obligations of earlier guesses."""
        marks = [(required, len(required)) for required in (calls.obligations, explorer.obligations)]

        def run(state: State, guessing: bool) -> list[Step]:
            for required, mark in marks:
                del required[mark:]
            calls.guessing = guessing
            try:
                return explorer.run(state, head)
            finally:
                calls.guessing = False

        return run

    def _candidates(self, unknown: frozenset[str]) -> Candidates:
        """Return what may hold at a loop's head, of the segments and of the list."""

        def candidates(state: State, count: Term, start: State) -> Facts:
            listed = () if self.flush is None else self.flush.candidates(state, count, unknown)
            return (*self._of_segments(state, count, start), *listed)

        return candidates

    def _of_segments(self, state: State, count: Term, start: State) -> Facts:
        """Return what may hold at a loop's head after ``count`` iterations: the segments before are clean."""
        asked, word, fetch = self.segment(_SEGMENT), state.lines.read(ANYWHERE), state.fetch.read(ANYWHERE)
        holds = And(ult(_SEGMENT, self.nr_segments), asked.holds(self.map, ANYWHERE))
        was_clean = start.lines.read(ANYWHERE) == cache.CLEAN
        was_fetchable = start.fetch.read(ANYWHERE) == cache.FETCHABLE
        return (
            ("a segment is left", ult(count, self.nr_segments)),
            ("no more iterations than segments", ule(count, self.nr_segments)),
            ("nothing is lost", word != cache.LOST),
            ("what was clean is clean", Implies(was_clean, word == cache.CLEAN)),
            ("what was fetchable is fetchable", Implies(was_fetchable, fetch == cache.FETCHABLE)),
            (_CLEAN, Implies(And(holds, ult(_SEGMENT, count)), word == cache.CLEAN)),
        )

    def _assumed(self, state: State, count: Term) -> Facts:
        """Return what is assumed of the segment of an iteration, and of the list there."""
        this = self.segment(count).in_memory(self.map)
        segment = ("segments-in-memory", Implies(ult(count, self.nr_segments), this))
        return (segment, *(self.flush.assumed(state, count) if self.flush is not None else ()))

    def _in_memory(self, address: Term) -> Facts:
        """The linear map covers a page from ``address``, which the list names or is read at."""
        end = const(self.map.page_end - 2 * self.context.page_size)
        return (("list-in-memory", And(self.map.in_linear_map(address), ule(address, end))),)

    def _named(self, state: State) -> Facts:
        """Return what is assumed of the pages that the list entries read in ``state`` name."""
        found: Facts = ()
        for word in self._words(state):
            # The kernel masks words with as many bits as a physical address may have.
            for mask in (-self.context.page_size, (1 << 48) - self.context.page_size):
                size = const(self.map.page_end - self.map.page_offset - 2 * self.context.page_size)
                fits = ult((word & mask) - self.map.memstart_addr, size)
                found = (*found, ("list-in-memory", Or(done(word), fits)))  # DONE names no page
        return found

    @staticmethod
    def _words(state: State) -> Iterator[Term]:
        """Yield the words of the list that ``state`` has read."""
        for access in state.accesses:
            item, offset = objects(access.before).find(access.address)
            of_list = item.name.startswith("what ") or (item.name == "kimage" and constant(offset) == 0)
            if access.kind == "load" and of_list and access.size == 8:
                yield access.value

    def _cases(self, *counts: Term) -> Iterator[Facts]:
        """Split into two cases: the segment is that of a loop's last iteration, or another.

        In the first case the fields are the same word of memory. Saying so spares the solvers a search.
        """
        for count in counts:
            this, asked = self.segment(count), self.segment(_SEGMENT)
            here = ("the segment is that of the last iteration", count == _SEGMENT)
            fields = And(this.mem == asked.mem, this.memsz == asked.memsz)
            sentence = "the fields of the last iteration's segment are those of the segment"
            required = Obligation("pl-loop-fields", sentence, (here,), fields)
            if not any(o.name == required.name and same(o.goal, fields) for o in self.obligations):
                self.obligations.append(required)
            yield (here, ("its fields are the same", fields))
        others = tuple(
            ("the segment is not that of the last iteration", count != _SEGMENT) for count in counts
        )
        yield others

    def _require(
        self, name: str, sentence: str, state: State, goal: Formula, *further: tuple[str, Formula]
    ) -> None:
        known = state.facts
        if not speaks_of_list(goal, *(fact for _, fact in further)):
            # The goal does not depend on what the list is, and these facts cost the solvers time.
            known = tuple(fact for fact in known if not speaks_of_list(fact[1]))
        facts = (*known, *further)
        at = state.trace[-1] if state.trace else None
        self.obligations.append(Obligation(f"pl-{name}", sentence, facts, goal, at, state.trace))

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

    def _require_iterations(
        self, iterations: LoopIterations, arrivals: list[State], back: list[Step]
    ) -> None:
        where = self.code.where(iterations.head)
        for state in arrivals:
            facts = dict(iterations.candidates(state, const(0), iterations.start))
            for label in sorted(iterations.kept):
                self._require("loop-init", f"on entry to the loop at {where}: {label}", state, facts[label])
        for step in back:
            self._require_accesses(step.state)
            sentence = f"an iteration of the loop at {where} leaves the registers as its definition says"
            self._require("loop-kept", sentence, step.state, iterations.agrees(step.state))
            later = dict(iterations.candidates(step.state, normal(iterations.count + 1), iterations.start))
            for label in sorted(iterations.kept):
                sentence = f"an iteration of the loop at {where} keeps: {label}"
                for extra in self._kept_cases(label, iterations.count):
                    self._require("loop-kept", sentence, step.state, later[label], *extra)
            self._require_end_of_loop(iterations, where, step.state)

    def _kept_cases(self, label: str, count: Term) -> Iterator[Facts]:
        """Return the cases into which the proof that an iteration keeps the invariant ``label`` is split."""
        if label == _CLEAN:
            yield from self._cases(count)
        elif label == LIST_CLEAN and self.flush is not None:
            yield from self.flush.cases((count,))
        else:
            yield ()

    def _require_end_of_loop(self, iterations: LoopIterations, where: str, back: State) -> None:
        """Require that a loop ends: each iteration takes a segment or a list entry, and these are finite."""
        goal, what = FALSE, "a segment or a list entry"
        if follows_list(iterations.kept) and self.flush is not None:
            goal, what = ult(iterations.count, self.flush.list.last), "a list entry"
        elif "no more iterations than segments" in iterations.kept:
            goal, what = ult(iterations.count, self.nr_segments), "a segment"
        self._require(
            "loop-terminates",
            f"each iteration of the loop at {where} takes {what}, of which there are finitely many",
            back,
            goal,
        )

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
        self._require("kimage-kept", sentence, state, kept)

    def _require_errors(self, state: State, where: str, succeeds: tuple[str, Formula]) -> None:
        """Require that no callee has failed if 0 is returned."""
        for event in state.events:
            name = event.name.removeprefix("call ")
            found = contract(name) if name != event.name else None
            if found is not None and found.fails:
                sentence = f"at {where} it returns 0 only if {name} did"
                goal = var(f"x0@{event.tag}")[31:0] == 0
                self._require("errors", sentence, state, goal, succeeds)

    def _require_list(
        self, state: State, where: str, page: Term | None, succeeds: tuple[str, Formula]
    ) -> None:
        """Require that list and source pages are clean to the PoC, for a routine that runs with the MMU
        off.
        """
        if self.flush is None:
            return
        frame = within(ANYWHERE, self.entry.sp - FRAME_BYTES, FRAME_BYTES)
        own = Or(frame, within(ANYWHERE, self.kimage, self.context.layout.size))
        clean = state.lines.read(ANYWHERE) == cache.CLEAN
        sentence = f"at {where} every word of the list and of every source page is clean to the point of "
        counts = tuple(iterations.count for iterations in self.iterations if follows_list(iterations.kept))
        for extra in self.flush.cases(self._spoken(state, counts)):
            further = (succeeds, *self.flush.asked(own, page), *extra)
            self._require("list-clean", f"{sentence}coherency", state, clean, *further)

    @staticmethod
    def _spoken(state: State, counts: tuple[Term, ...]) -> tuple[Term, ...]:
        """Return those of the loops' iteration counts that the path's facts mention."""
        spoken = set(variables([fact for _, fact in state.facts]))
        return tuple(count for count in counts if count.args[0] in spoken)

    def require_return(self, step: Step, leaves: Exit) -> None:
        state, where = step.state, self.code.where(step.state.trace[-1])
        back = leaves.target == self.entry.registers["x30"]
        self._require("returns", f"at {where} it returns to its caller", state, back)
        kept = (*(f"x{i}" for i in range(19, 30)), "sp")
        named = "SP and x19 to x29"
        if self.context.shadow_calls:
            kept, named = (*kept, "x18"), "SP, x18 and x19 to x29"
        unchanged = And(*(state.registers[n] == self.entry.registers[n] for n in kept))
        self._require("returns", f"at {where} {named} are as they were (AAPCS64, 6.1.1)", state, unchanged)
        same = And(*(state.registers[n] == self.entry.registers[n] for n in SYSTEM))
        self._require("returns", f"at {where} every system register is as it was", state, same)
        self._require_kimage(state, where)
        result = state.registers["x0"][31:0]
        in_place = ("head has IND_DONE", self.in_place)
        succeeds = ("it returns 0", result == 0)
        asked = And(ult(_SEGMENT, self.nr_segments), self.segment(_SEGMENT).holds(self.map, ANYWHERE))
        word = ("the word is one of a segment", asked)
        page = next((item.base for item in objects(state).objects if item.name == CONTROL_PAGE), None)
        self._require_list(state, where, page, succeeds)
        apart: Facts = ()
        if page is not None:
            apart = (("segments-apart", Not(within(ANYWHERE, page, self.context.page_size))),)
        clean = state.lines.read(ANYWHERE) == cache.CLEAN
        sentence = f"at {where} every word of every segment is clean to the point of coherency"
        for extra in self._cases(*self._spoken(state, self._counts)):
            self._require("segments-clean", sentence, state, clean, in_place, word, *apart, *extra)
        self._require(
            "inplace-result",
            f"at {where} post_load returns 0 for an image in place",
            state,
            result == 0,
            in_place,
        )
        copies = [e for e in state.events if e.name.removeprefix("call ") in _COPIES]
        if not self.through_routine:
            uncopied = TRUE if not copies else FALSE
            self._require(
                "inplace-copies-nothing", f"before {where} nothing was copied", state, uncopied, in_place
            )
        self._require_errors(state, where, succeeds)
        prepared = (
            (succeeds,) if self.through_routine else (succeeds, ("head has no IND_DONE", Not(self.in_place)))
        )
        self.preparation.require_return(state, where, prepared)


_LOADED = ("dtb_mem", "kern_reloc", "el2_vectors", "ttbr0", "ttbr1", "zero_page", "phys_offset", "t0sz")
_COPIES = ("memcpy", "__memcpy", "__pi_memcpy", "memmove", "__memmove")
