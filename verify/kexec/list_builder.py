"""Prove what kexec_core's functions do to the list: begin, append and terminate (T10)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from kexec_verify.arm64.state import State
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.list_code import (
    ADD,
    ALLOCATES,
    ALLOCATORS,
    BEGIN,
    FOUND,
    FREE,
    KIMAGE,
    KIMAGE_BYTES,
    NONE,
    PREFIX,
    RANK,
    WORD,
    ListCode,
    instances,
    invariants,
    labelled,
)
from kexec_verify.logic import (
    FALSE,
    And,
    Formula,
    If,
    Implies,
    Not,
    Or,
    Term,
    const,
    constant,
    normal,
    var,
)
from kexec_verify.obligation import Facts, Obligation
from kexec_verify.specs.image_builder import ENOMEM, GFP_ZERO, NO_DESTINATION, ListBuilder
from kexec_verify.specs.kimage import IND_DONE, IND_INDIRECTION
from kexec_verify.symbolic.explore import ANYWHERE
from kexec_verify.symbolic.heap import Heap, heap_of
from kexec_verify.symbolic.objects import Object


@dataclass
class ListFunction(ListCode):
    """The proof of one function of one kernel."""

    def prove(self) -> None:
        """Make the obligations.

        :raises UnsupportedError: for code that the proof does not cover.
        :raises LimitError: for too many paths.
        """
        if self.name == BEGIN:
            self._prove_begin()
            return
        for length in (const(0), var("k")):
            if self.name == ADD:
                self._prove_add(length)
            else:
                self._prove_terminate(length)

    # do_kimage_alloc_init

    def _prove_begin(self) -> None:
        entry = self.entry_state()
        kimage = var("the new kimage")

        def called(state: State, name: str, at: int) -> list[State]:
            if name not in ALLOCATORS:
                raise UnsupportedError(f"call of {name}, which has no contract here", at)
            after = self.clobbered(state, name)
            some = after.with_registers(x0=kimage).assume(("kimage-allocated", kimage != 0))
            memory = heap_of(heap_of(some.memory).adding(Object(KIMAGE, kimage, 0, KIMAGE_BYTES)))
            flags = constant(state.registers["x1"][31:0])
            if flags is not None and flags & GFP_ZERO:
                memory = heap_of(memory.storing(KIMAGE, self.context.layout.head, const(0)))
            return [after.with_registers(x0=const(0)), replace(some, memory=memory)]

        for step in self.run(entry, called):
            state = step.state
            self.require_return(entry, step)
            self.require_accesses(state, lambda address: FALSE)
            if not any(item.name == KIMAGE for item in heap_of(state.memory).objects):
                sentence = "without memory it returns 0"
                self.require("none", sentence, state, state.registers["x0"] == 0)
                continue
            begun = self.builder("begun", heap_of(state.memory), kimage, const(0), const(0))
            begun = self.after(state, begun, const(0))
            sentence = (
                "it returns a kimage whose list has no word, and entry and last_entry name its head (I1)"
            )
            self.require("cursor", sentence, state, And(state.registers["x0"] == kimage, begun.cursor()))

    # kimage_add_entry

    def _prove_add(self, length: Term) -> None:
        entry, built = self.given(length)
        word = entry.registers["x1"]
        entry = entry.assume(("list-words", built.is_page(word)))
        empty = constant(length) == 0

        def called(state: State, name: str, at: int) -> list[State]:
            if name != ALLOCATES:
                raise UnsupportedError(f"call of {name}, which has no contract here", at)
            asked = And(state.registers["x0"] == built.kimage, state.registers["x2"] == NO_DESTINATION)
            sentence = f"{ALLOCATES} is asked for any page that is no destination"
            self.require("asks", sentence, state, asked)
            as_it_was = self.after(state, built, length)
            kept = And(
                as_it_was.cursor(),
                as_it_was.head == built.head,
                state.memory.read(ANYWHERE) == entry.memory.read(ANYWHERE),
            )
            self.require("asks", "nothing has been stored to the list before that", state, kept)
            return self._allocated(self.clobbered(state, name), built)

        for step in self.run(entry, called):
            self.require_return(entry, step)
            state = step.state
            labels = {label for label, _ in state.facts}
            asked = NONE in labels or FOUND in labels
            before = self._swapped(built) if asked else built
            if NONE in labels:
                after = self.after(state, before, length)
                goal = And(
                    state.registers["x0"][31:0] == const(-ENOMEM, 32),
                    after.cursor(),
                    after.head == before.head,
                )
                sentence = "without a page it returns -ENOMEM, and the cursor is as it was"
                self.require("none", sentence, state, goal)
                self._require_frame(state, before, [])
            else:
                self._require_appended(state, before, word, asked, empty)
            found = self.pages.address(self.page_found) if FOUND in labels else None
            self.require_accesses(state, partial(self._in_list, before, found))

    def _swapped(self, built: ListBuilder) -> ListBuilder:
        """The list after kimage_alloc_page, which may have given a SOURCE another page."""
        memory = Heap((self.context.image,), f"after {ALLOCATES}")
        return replace(built, read=memory.read)

    def _allocated(self, state: State, built: ListBuilder) -> list[State]:
        """What kimage_alloc_page leaves: no page, or one that may become a list page."""
        state = replace(state, memory=self.with_cursor(heap_of(state.memory), built))
        swapped, page = self._swapped(built), self.pages.struct_page(self.page_found)
        known = tuple(("list-pages", fact) for _, fact in invariants(swapped))
        result = var(f"the result of {ALLOCATES}")
        none = state.with_registers(x0=const(0)).assume((NONE, result == 0), *known)
        free = (FREE, swapped.is_free(self.page_found))
        return [none, state.with_registers(x0=normal(page)).assume((FOUND, result == page), free, *known)]

    def _in_list(self, built: ListBuilder, found: Term | None, address: Term) -> Formula:
        """``address`` is a word of the last list page or of the new one."""
        pages = [] if constant(built.length) == 0 else [built.last_entry & ~(self.context.page_size - 1)]
        pages += [] if found is None else [found]
        return Or(*((address & ~(self.context.page_size - 1)) == page for page in pages))

    def _require_appended(
        self, state: State, before: ListBuilder, word: Term, asked: bool, empty: bool
    ) -> None:
        """The word is at the list's end, and the invariants hold of the list that has it.

        Lemmas come first. What follows from them needs neither the path's branches nor its addresses.
        """
        after = self.after(state, before, before.length + (2 if asked else 1))
        if asked:
            after = self._with_page(after, before)
        end, full = before.length, before.chains(before.length)
        self.require("result", "it returns 0", state, state.registers["x0"][31:0] == const(0, 32))
        self.require("cursor", "entry is the next free word, which is 0 (I1)", state, after.cursor())
        sentence = "a page is chained where the last one is full, and nowhere else"
        full_here = full if asked else Not(full)
        self.require("full", sentence, state, full_here)
        self.require("word", "the given word is the last one", state, after.word(after.length - 1) == word)
        if asked:
            names = after.word(end) == (self.pages.physical(self.page_found) | IND_INDIRECTION)
            self.require("chained", "the word before it is the INDIRECTION to the new page", state, names)
        known = labelled(state, "memstart-aligned", "list-words", FREE)
        known += () if empty else (("I1", before.counted()), ("I2 of the head", before.shape(const(0))))
        known += (("proved: where a page is chained", full_here),)
        own = self._own(before, after)
        if not empty:
            of_word = (
                *instances(before, WORD),
                ("I3 of the last page", before.list_page(before.rank_of(end))),
            )
            older = And(before.has_word(WORD), WORD != 0)
            apart = Implies(older, And(*(before.slot(WORD) != address for address in own)))
            self._require_from("apart", "no older word is where it stores", state, apart, *known, *of_word)
            kept = Implies(
                older, And(after.slot(WORD) == before.slot(WORD), after.word(WORD) == before.word(WORD))
            )
            self.require(
                "kept",
                "each older word is as it was",
                state,
                kept,
                *of_word,
                ("proved: where it stores", apart),
            )
            self.require("kept", "the head is as it was", state, after.head == before.head)
            known += (*instances(before, WORD, RANK), ("proved: each older word is as it was", kept))
            known += (("proved: the head is as it was", after.head == before.head),)
        known += (("proved: the given word is the last one", after.word(after.length - 1) == word),)
        known += (("proved: the INDIRECTION", names),) if asked else ()
        sentence = "each list page is a page of its own, and in no segment (I3, I4)"
        self._require_from("pages", sentence, state, after.list_page(RANK), *known)
        sentence = "each word is a DESTINATION, a SOURCE or the next page's INDIRECTION (I2)"
        self._require_from("shape", sentence, state, after.shape(WORD), *known)
        sentence = "the list is what it was, with the given word at its end"
        self._require_from("appended", sentence, state, before.appended(after, word, WORD), *known)
        self._require_frame(state, before, own)

    def _with_page(self, after: ListBuilder, before: ListBuilder) -> ListBuilder:
        """The list ``after``, whose last page is the one that was found."""
        rank = before.named_by(before.length)
        return replace(
            after,
            page=lambda j: If(j == rank, self.page_found, before.page(j)),
            rank=lambda n: If(n == self.page_found, rank, before.rank(n)),
        )

    @staticmethod
    def _own(before: ListBuilder, after: ListBuilder) -> list[Term]:
        """The addresses of the words that are appended, and of the one after them; the head's is another."""
        first = 1 if constant(before.length) == 0 else 0
        count = 3 if after.page is not before.page else 2
        return [after.slot(normal(before.length + further)) for further in range(first, count)]

    def _require_from(
        self, kind: str, sentence: str, state: State, goal: Formula, *facts: tuple[str, Formula]
    ) -> None:
        """Require what follows from ``facts``, whatever else holds on the path."""
        name = f"{PREFIX[self.name]}-{kind}"
        self.obligations.append(Obligation(name, sentence, facts, goal, state.trace[-1], state.trace))

    def _require_frame(self, state: State, before: ListBuilder, own: list[Term]) -> None:
        """No other word of memory changes."""
        elsewhere = And(*(address != ANYWHERE for address in own))
        goal = state.memory.read(ANYWHERE) == before.read(ANYWHERE)
        other = ("another word than those that are appended", elsewhere)
        self.require("frame", "no other word of memory changes", state, goal, other)

    # kimage_terminate

    def _prove_terminate(self, length: Term) -> None:
        entry, built = self.given(length)

        def called(state: State, name: str, at: int) -> list[State]:
            raise UnsupportedError(f"call of {name}, which has no contract here", at)

        for step in self.run(entry, called):
            self.require_return(entry, step)
            state = step.state
            after = self.after(state, built, length)
            done = after.word(length) == IND_DONE
            self.require("done", "the free word is DONE, and has no other bit", state, done)
            known: Facts = (("proved: the free word", done),)
            if constant(length) != 0:
                older, place = And(built.has_word(WORD), WORD != 0), built.slot(length)
                apart = Implies(older, built.slot(WORD) != place)
                last = ("I3 of the last page", built.list_page(built.rank_of(length)))
                facts = (("I1", built.counted()), last, *instances(built, WORD))
                self._require_from("apart", "no older word is where it stores", state, apart, *facts)
                kept = Implies(built.has_word(WORD), after.word(WORD) == built.word(WORD))
                stores = ("proved: where it stores", apart)
                self._require_from("kept", "each older word is as it was", state, kept, stores)
                known += (("proved: each older word is as it was", kept),)
            sentence = "the list is what it was, with DONE at its end"
            self._require_from("last", sentence, state, built.terminated(after, WORD), *known)
            own = And() if constant(length) == 0 else built.slot(length) != ANYWHERE
            goal = state.memory.read(ANYWHERE) == built.read(ANYWHERE)
            self.require("frame", "no other word of memory changes", state, goal, ("another word", own))
            self.require_accesses(state, partial(self._in_list, built, None))
