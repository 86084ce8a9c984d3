"""What a function flushes of an image, its list and its segments, and the loops over them (T7).

machine_kexec_post_load flushes them, before 5.12 machine_kexec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from kexec_verify.arm64 import cache
from kexec_verify.arm64.execute import Step
from kexec_verify.arm64.state import State
from kexec_verify.kexec.calls import Calls, objects
from kexec_verify.kexec.context import FRAME_BYTES, KexecContext
from kexec_verify.kexec.list_flush import CLEAN as LIST_CLEAN
from kexec_verify.kexec.list_flush import ListFlush, follows_list, speaks_of_list
from kexec_verify.logic import (
    FALSE,
    And,
    Formula,
    Implies,
    Not,
    Or,
    Term,
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
from kexec_verify.obligation import Facts, Obligation
from kexec_verify.specs.address_map import AddressMap
from kexec_verify.specs.kimage import (
    KEXEC_SEGMENT_MAX,
    SEGMENT_BYTES,
    SEGMENT_MEM,
    SEGMENT_MEMSZ,
    one_flag,
)
from kexec_verify.specs.machine_kexec_post_load import Segment
from kexec_verify.specs.relocate_kernel import done
from kexec_verify.symbolic.cutpoints import Cut
from kexec_verify.symbolic.explore import ANYWHERE, Decide, Explorer
from kexec_verify.symbolic.loop_iterations import Candidates, LoopIterations, Run, infer_iterations
from kexec_verify.symbolic.segments import Segment as Part

_CLEAN = "earlier segments are clean"
_SEGMENT = var("segment")
"""An arbitrary index of a segment: what holds of it holds of every segment."""


@dataclass
class ImageFlush:
    """The part of a function's proof that is about what it flushes of an image.

    :param entry: the state in which the function is entered, with the kimage at ``kimage``.
    :param mmu_on: the routine runs with the MMU on, so nothing is asked of the list.
    :param code: of the function; ``where`` names its addresses.
    :param ran: is told of each state at the end of a path.
    :param prefixes: of the names of obligations on loops, each of which is made under every one of them.
    :param iterations: the loops, each described by the state at its head after any number of iterations.
    """

    context: KexecContext
    map: AddressMap
    entry: State
    kimage: Term
    mmu_on: bool
    decide: Decide
    where: Callable[[int], str]
    ran: Callable[[State], None]
    prefixes: tuple[str, ...] = ("pl",)
    obligations: list[Obligation] = field(default_factory=list)
    iterations: list[LoopIterations] = field(default_factory=list)

    def __post_init__(self) -> None:
        layout = self.context.layout
        head = self.context.field(self.entry, self.kimage, layout.head)
        # A routine that runs with the MMU off reads list and source pages at the point of coherency.
        self.flush = None if self.mmu_on else ListFlush(self.kimage, head, self.map, self.context.page_size)
        self.in_place: Formula = done(head)
        self.nr_segments: Term = self.context.field(self.entry, self.kimage, layout.nr_segments)
        self._counts: tuple[Term, ...] = ()

    def segment(self, index: Term) -> Segment:
        """kimage->segment[index]."""
        start = self.kimage + self.context.layout.segment + index * SEGMENT_BYTES
        memory = self.entry.memory
        return Segment(memory.load(start + SEGMENT_MEM, 8), memory.load(start + SEGMENT_MEMSZ, 8))

    def assumptions(self) -> Facts:
        """Facts about the image when the function is entered."""
        frame = within(ANYWHERE, self.entry.sp - FRAME_BYTES, FRAME_BYTES)
        kimage = within(ANYWHERE, self.kimage, self.context.layout.size)
        asked = self.segment(_SEGMENT)
        return (
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
        """What is assumed of an arbitrary segment, of each; the linear map shows it from ``above`` on."""
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

    def loop(
        self, cut: Cut, arrivals: list[State], explorer: Explorer, calls: Calls
    ) -> tuple[Part, list[Step]]:
        """Owe that the loop that is cut at ``cut`` is as inferred; the paths from there that leave it.

        :param arrivals: the states in which it is entered.
        """
        iterations, paths = infer_iterations(
            cut.at,
            arrivals,
            self._runner(explorer, calls, cut.at),
            lambda unknown, live: self._candidates(unknown, live if cut.shared else frozenset()),
            self.decide,
            self.context.page_size,
            self._in_memory,
            lambda state, count: self._assumed(state, count, cut.shared),
        )
        self._counts = (*self._counts, iterations.count)
        self.iterations.append(iterations)
        self._require_iterations(iterations, arrivals, [step for step in paths if step.then == cut.at])
        return iterations.segment(paths), [step for step in paths if step.then != cut.at]

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

    def _candidates(self, unknown: frozenset[str], live: frozenset[str]) -> Candidates:
        """What may hold at a loop's head: of the segments, and of the list.

        :param live: unknown registers that an iteration reads and that may hold the current word.
        """

        def candidates(state: State, count: Term, start: State) -> Facts:
            listed = () if self.flush is None else self.flush.candidates(state, count, unknown, live)
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

    def _assumed(self, state: State, count: Term, ahead: bool) -> Facts:
        """Return what is assumed of the segment of an iteration, and of the list there."""
        this = self.segment(count).in_memory(self.map)
        segment = ("segments-in-memory", Implies(ult(count, self.nr_segments), this))
        return (segment, *(self.flush.assumed(state, count, ahead) if self.flush is not None else ()))

    def _in_memory(self, address: Term) -> Facts:
        """Of an address that the list names or is read at: the linear map shows it, and a page from it."""
        end = const(self.map.page_end - 2 * self.context.page_size)
        return (("list-in-memory", And(self.map.in_linear_map(address), ule(address, end))),)

    def named(self, state: State) -> Facts:
        """What is assumed of the pages that the words of the list name which ``state`` has read."""
        found: Facts = ()
        for word in self._words(state):
            # The kernel masks words with as many bits as a physical address may have.
            for mask in (-self.context.page_size, (1 << 48) - self.context.page_size):
                size = const(self.map.page_end - self.map.page_offset - 2 * self.context.page_size)
                fits = ult((word & mask) - self.map.memstart_addr, size)
                found = (*found, ("list-in-memory", Or(done(word), fits)))  # DONE names no page
        return found

    def one_flag(self, state: State) -> Facts:
        """What is assumed of the flags of the words of the list that ``state`` has read, or goes on from."""
        words = list(self._words(state))
        if self.flush is not None:
            words += [self.flush.list.word(count) for count in self.counts(state)]
        return tuple(("list-one-flag", one_flag(word)) for word in words)

    @staticmethod
    def _words(state: State) -> Iterator[Term]:
        """The words of the list that ``state`` has read."""
        for access in state.accesses:
            item, offset = objects(access.before).find(access.address)
            of_list = item.name.startswith("what ") or (item.name == "kimage" and constant(offset) == 0)
            if access.kind == "load" and of_list and access.size == 8:
                yield access.value

    def _cases(self, *counts: Term) -> Iterator[Facts]:
        """Split into cases: the segment is the one of a loop's last iteration, or it is another.

        The fields are the same word of memory then; to say so saves the solvers the search.
        """
        for count in counts:
            this, asked = self.segment(count), self.segment(_SEGMENT)
            here = ("the segment is that of the last iteration", count == _SEGMENT)
            fields = And(this.mem == asked.mem, this.memsz == asked.memsz)
            sentence = "the fields of the last iteration's segment are those of the segment"
            for prefix in self.prefixes:
                required = Obligation(f"{prefix}-loop-fields", sentence, (here,), fields)
                if not any(o.name == required.name and same(o.goal, fields) for o in self.obligations):
                    self.obligations.append(required)
            yield (here, ("its fields are the same", fields))
        others = tuple(
            ("the segment is not that of the last iteration", count != _SEGMENT) for count in counts
        )
        yield others

    def require(
        self,
        name: str,
        sentence: str,
        state: State,
        goal: Formula,
        *further: tuple[str, Formula],
        prefixes: tuple[str, ...] = ("pl",),
    ) -> None:
        """Add an obligation on ``state``, under each of the prefixes."""
        known = state.facts
        if not speaks_of_list(goal, *(fact for _, fact in further)):
            # The goal does not depend on what the list is, and these facts cost the solvers time.
            known = tuple(fact for fact in known if not speaks_of_list(fact[1]))
        facts = (*known, *further)
        at = state.trace[-1] if state.trace else None
        for prefix in prefixes:
            required = Obligation(f"{prefix}-{name}", sentence, facts, goal, at, state.trace)
            self.obligations.append(required)

    def _require_iterations(
        self, iterations: LoopIterations, arrivals: list[State], back: list[Step]
    ) -> None:
        where = self.where(iterations.head)

        def require(
            name: str, sentence: str, state: State, goal: Formula, *further: tuple[str, Formula]
        ) -> None:
            self.require(name, sentence, state, goal, *further, prefixes=self.prefixes)

        for state in arrivals:
            facts = dict(iterations.candidates(state, const(0), iterations.start))
            for label in sorted(iterations.kept):
                require("loop-init", f"on entry to the loop at {where}: {label}", state, facts[label])
        for step in back:
            self.ran(step.state)
            sentence = f"an iteration of the loop at {where} leaves the registers as its definition says"
            require("loop-kept", sentence, step.state, iterations.agrees(step.state))
            later = dict(iterations.candidates(step.state, normal(iterations.count + 1), iterations.start))
            for label in sorted(iterations.kept):
                sentence = f"an iteration of the loop at {where} keeps: {label}"
                for extra in self._kept_cases(label, iterations.count):
                    require("loop-kept", sentence, step.state, later[label], *extra)
            goal, what = self._taken(iterations)
            sentence = f"each iteration of the loop at {where} takes {what}, of which there are finitely many"
            require("loop-terminates", sentence, step.state, goal)

    def _kept_cases(self, label: str, count: Term) -> Iterator[Facts]:
        """Return the cases into which the proof that an iteration keeps the invariant ``label`` is split."""
        if label == _CLEAN:
            yield from self._cases(count)
        elif label == LIST_CLEAN and self.flush is not None:
            yield from self.flush.cases((count,))
        else:
            yield ()

    def _taken(self, iterations: LoopIterations) -> tuple[Formula, str]:
        """Return that an iteration takes a segment or a list entry, which are finite, and which of them."""
        if follows_list(iterations.kept) and self.flush is not None:
            return ult(iterations.count, self.flush.list.last), "a list entry"
        if "no more iterations than segments" in iterations.kept:
            return ult(iterations.count, self.nr_segments), "a segment"
        return FALSE, "a segment or a list entry"

    def require_list(
        self, state: State, where: str, page: Term | None, *further: tuple[str, Formula]
    ) -> None:
        """A routine that runs with the MMU off finds list and source pages at the point of coherency.

        :param page: the control page, if anything was copied there.
        """
        if self.flush is None:
            return
        clean = state.lines.read(ANYWHERE) == cache.CLEAN
        sentence = (
            f"at {where} every word of the list and of every source page is clean to the point of coherency"
        )
        counts = tuple(iterations.count for iterations in self.iterations if follows_list(iterations.kept))
        for extra in self.flush.cases(self._spoken(state, counts)):
            asked = (*further, *self.of_list(page), *extra)
            self.require("list-clean", sentence, state, clean, *asked)

    def of_list(self, page: Term | None) -> Facts:
        """The word at ANYWHERE is one of the list or of a source page; ``page`` is the control page."""
        assert self.flush is not None
        frame = within(ANYWHERE, self.entry.sp - FRAME_BYTES, FRAME_BYTES)
        return self.flush.asked(Or(frame, within(ANYWHERE, self.kimage, self.context.layout.size)), page)

    def of_segment(self, page: Term | None) -> Facts:
        """The word at ANYWHERE is one of an arbitrary segment; ``page`` is the control page."""
        asked = And(ult(_SEGMENT, self.nr_segments), self.segment(_SEGMENT).holds(self.map, ANYWHERE))
        word: Facts = (("the word is one of a segment", asked),)
        if page is None:
            return word
        return (*word, ("segments-apart", Not(within(ANYWHERE, page, self.context.page_size))))

    def require_segments(
        self, state: State, where: str, page: Term | None, *further: tuple[str, Formula]
    ) -> None:
        """Every word of every segment is clean, under ``further`` facts.

        :param page: the control page, if anything was copied there.
        """
        clean = state.lines.read(ANYWHERE) == cache.CLEAN
        sentence = f"at {where} every word of every segment is clean to the point of coherency"
        for extra in self._cases(*self._spoken(state, self._counts)):
            self.require("segments-clean", sentence, state, clean, *further, *self.of_segment(page), *extra)

    def counts(self, state: State) -> tuple[Term, ...]:
        """Return the iteration counts, of loops that the path has come through, that its facts mention."""
        return self._spoken(state, self._counts)

    @staticmethod
    def _spoken(state: State, counts: tuple[Term, ...]) -> tuple[Term, ...]:
        """Return those of the loops' iteration counts that the path's facts mention."""
        spoken = set(variables([fact for _, fact in state.facts]))
        return tuple(count for count in counts if count.args[0] in spoken)
