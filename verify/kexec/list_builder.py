"""kexec_core's functions that build the list of words: begin, append and terminate (T10)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from kexec_verify.arm64.cache import Lines
from kexec_verify.arm64.execute import Exit, Step
from kexec_verify.arm64.lift import SIZE
from kexec_verify.arm64.state import GENERAL, SYSTEM, State, unknown_ghosts, unknown_registers, width
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.calls import CLOBBERED
from kexec_verify.kexec.context import FRAME_BYTES, KexecContext
from kexec_verify.kexec.struct_pages import first_struct_page
from kexec_verify.logic import (
    FALSE,
    And,
    Formula,
    Function,
    If,
    Implies,
    Not,
    Or,
    Term,
    aligned,
    const,
    constant,
    normal,
    offset_from,
    var,
)
from kexec_verify.memory import WORD_BYTES
from kexec_verify.obligation import Facts, Obligation
from kexec_verify.specs.address_map import AddressMap, linear_map_end
from kexec_verify.specs.image_builder import ENOMEM, GFP_ZERO, NO_DESTINATION, ListBuilder, Pages, Segment
from kexec_verify.specs.kimage import IND_INDIRECTION
from kexec_verify.symbolic.explore import ANYWHERE, Decide, Explorer
from kexec_verify.symbolic.heap import HEAP, Heap, heap_of
from kexec_verify.symbolic.objects import STACK_FRAME, Object

ADD, TERMINATE, BEGIN = "kimage_add_entry", "kimage_terminate", "do_kimage_alloc_init"
FUNCTIONS = (BEGIN, ADD, TERMINATE)
ALLOCATES = "kimage_alloc_page"
ALLOCATORS = ("kmalloc_trace", "kmalloc_trace_noprof", "__kmalloc_cache_noprof", "kmem_cache_alloc_trace")
"""What do_kimage_alloc_init gets a kimage from, over the kernel's versions."""
KIMAGE = "kimage"
WORD, RANK = var("i"), var("j")
"""Any word of the list, and the rank of any list page."""
NONE, FOUND = f"{ALLOCATES} returns 0", f"{ALLOCATES} returns a page"
FREE = "list-pages"
_TASK, _IMAGE, _TASK_BYTES, _KIMAGE_BYTES = "the task", "the image", 16384, 4096
_KEPT = tuple(name for name in (*GENERAL, "sp", *SYSTEM) if name not in CLOBBERED)


@dataclass
class ListFunction:
    """The proof of one function of one kernel.

    :ivar obligations: what it makes; ``covered``: the instructions that some path runs.
    """

    context: KexecContext
    name: str
    decide: Decide
    obligations: list[Obligation] = field(default_factory=list)
    covered: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.code = self.context.plain(self.name)
        self.pages = pages(self.context)
        self.segment = any_segment()
        self.page_found = var("the page found")

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

    # States

    def _memory(self, objects: tuple[Object, ...], tag: str = "entry") -> Heap:
        return self._with_globals(Heap((self.context.image, *objects), tag))

    def _with_globals(self, memory: Heap) -> Heap:
        """``memory`` with the globals that boot sets once."""
        address = self.context.globals.addresses.get("memstart_addr")
        if address is None:
            raise UnsupportedError("kernel whose memstart_addr is not known")
        return heap_of(memory.storing(_IMAGE, address, self.pages.addresses.memstart_addr))

    def _entry(self, *further: Object) -> State:
        registers = unknown_registers(self.name)
        frame = Object(STACK_FRAME, registers["sp"], -FRAME_BYTES, 0)
        task = Object(_TASK, registers["sp_el0"], 0, _TASK_BYTES)
        memory = self._memory((frame, task, *further))
        state = State(registers, unknown_ghosts(self.name), memory, Lines("L@entry"), fetch=Lines("F@entry"))
        whole = aligned(self.pages.addresses.memstart_addr, self.context.page_size)
        return state.assume(("memstart-aligned", whole))

    def _given(self, length: Term) -> tuple[State, ListBuilder]:
        """The state on entry with a kimage in x0, and its list of ``length`` words."""
        kimage = unknown_registers(self.name)["x0"]
        state = self._entry(Object(KIMAGE, kimage, 0, _KIMAGE_BYTES))
        memory = heap_of(state.memory)
        built = self._builder("entry", memory, kimage, length, self.context.field(state, kimage, 0))
        memory = self._with_cursor(memory, built)
        built = replace(built, read=memory.read)
        state = replace(state, memory=memory)
        return state.assume(*invariants(built)), built

    def _builder(
        self, tag: str, memory: Heap, kimage: Term, length: Term, head: Term, page: Function | None = None
    ) -> ListBuilder:
        """The list in ``memory``, whose fields name the places that I1 says."""
        found = ListBuilder(
            self.pages, kimage, head, kimage, kimage, memory.read, length,
            page or Function(f"page@{tag}"), Function(f"rank@{tag}"), self.segment,
        )  # fmt: skip
        if constant(length) == 0:
            return replace(found, head=const(0))
        last = found.pages.address(found.page(found.rank_of(length))) + self.context.page_size - WORD_BYTES
        return replace(found, entry=normal(found.slot(length)), last_entry=normal(last))

    def _with_cursor(self, memory: Heap, built: ListBuilder) -> Heap:
        at = self.context.layout
        for offset, value in (
            (at.head, built.head),
            (at.entry, built.entry),
            (at.last_entry, built.last_entry),
        ):
            memory = heap_of(memory.storing(KIMAGE, offset, value))
        return memory

    def _after(self, state: State, built: ListBuilder, length: Term) -> ListBuilder:
        """What struct kimage and memory hold at the end of a path."""
        at, kimage = self.context.layout, built.kimage
        fields = (self.context.field(state, kimage, o) for o in (at.head, at.entry, at.last_entry))
        return ListBuilder(
            self.pages,
            kimage,
            *fields,
            state.memory.read,
            normal(length),
            built.page,
            built.rank,
            self.segment,
        )

    # Running

    def _run(self, entry: State, leave: Callable[[State, str, int], list[State]]) -> list[Step]:
        """Run every path; ``leave`` gives the states after a call."""

        def left(step: Step) -> list[Step] | None:
            assert isinstance(step.then, Exit)
            at, kind = step.state.trace[-1], step.then.kind
            if kind == "ret":
                return None
            target = constant(step.then.target)
            names = self.context.kernel.symbols_at(target) if target is not None else []
            if kind != "call" or not names:
                raise UnsupportedError(f"way out of {self.name} ({kind})", at)
            return [Step(state, at + SIZE) for state in leave(step.state, names[0], at)]

        explorer = Explorer(
            self.code, frozenset(), self.decide, leave=left, prune=True, prefix=f"{PREFIX[self.name]}-"
        )
        ends = explorer.run(entry, self.code.address)
        self.obligations += explorer.obligations
        self.covered |= explorer.covered
        if explorer.entered:
            raise UnsupportedError(f"loop in {self.name}", explorer.entered[0].shape.head)
        return ends

    def _clobbered(self, state: State, name: str) -> State:
        """The state after a call of which nothing is known but that it keeps to the procedure call standard."""
        memory = heap_of(state.memory)
        base = next(item.base for item in memory.objects if item.name == STACK_FRAME)
        below = offset_from(state.sp, base)
        if below is None:
            raise UnsupportedError("stack pointer at an unknown distance from its value at entry")
        memory = heap_of(memory.losing(STACK_FRAME, below)).forgetting(f"after {name}")
        registers = {r: var(f"{r} after {name}", width(r)) for r in CLOBBERED}
        return replace(state.with_registers(**registers), memory=self._with_globals(memory))

    def _require(
        self, kind: str, sentence: str, state: State, goal: Formula, *further: tuple[str, Formula]
    ) -> None:
        at = state.trace[-1]
        name = f"{PREFIX[self.name]}-{kind}"
        facts = (*state.facts, *further)
        self.obligations.append(Obligation(name, sentence, facts, goal, at, state.trace))

    def _require_return(self, entry: State, step: Step) -> None:
        assert isinstance(step.then, Exit)
        kept = (step.state.registers[name] == entry.registers[name] for name in _KEPT)
        goal = And(step.then.target == entry.registers["x30"], *kept)
        self._require(
            "returns", "it returns to its caller with SP, x19 to x29 as they were", step.state, goal
        )

    def _require_accesses(self, state: State, allowed: Callable[[Term], Formula]) -> None:
        """Each access stays in the frame, the fields head, entry and last_entry, or a list page."""
        fields = {self.context.layout.head, self.context.layout.entry, self.context.layout.last_entry}
        for access in state.accesses:
            item, offset = heap_of(access.before.memory).find(access.address)
            place = constant(offset)
            if item is HEAP:
                whole = access.size == WORD_BYTES
                goal = And(aligned(access.address, WORD_BYTES), allowed(access.address)) if whole else FALSE
            elif item.name == KIMAGE and access.kind == "store" and self.name != BEGIN:
                goal = And() if place in fields and access.size == WORD_BYTES else FALSE
            elif item.name in (STACK_FRAME, KIMAGE):
                goal = item.holds(offset, access.size)
            else:
                goal = And() if access.kind == "load" else FALSE
            sentence = f"the {access.kind} at {self.code.where(access.at)} stays in {self._place(item)}"
            name = f"{PREFIX[self.name]}-access"
            facts = access.before.facts[: access.known]
            self.obligations.append(Obligation(name, sentence, facts, goal, access.at, state.trace))

    @staticmethod
    def _place(item: Object) -> str:
        return "a list page" if item is HEAP else f"its own part of {item.name}"

    # do_kimage_alloc_init

    def _prove_begin(self) -> None:
        entry = self._entry()
        kimage = var("the new kimage")

        def called(state: State, name: str, at: int) -> list[State]:
            if name not in ALLOCATORS:
                raise UnsupportedError(f"call of {name}, which has no contract here", at)
            after = self._clobbered(state, name)
            some = after.with_registers(x0=kimage).assume(("kimage-allocated", kimage != 0))
            memory = heap_of(heap_of(some.memory).adding(Object(KIMAGE, kimage, 0, _KIMAGE_BYTES)))
            flags = constant(state.registers["x1"][31:0])
            if flags is not None and flags & GFP_ZERO:
                memory = heap_of(memory.storing(KIMAGE, self.context.layout.head, const(0)))
            return [after.with_registers(x0=const(0)), replace(some, memory=memory)]

        for step in self._run(entry, called):
            state = step.state
            self._require_return(entry, step)
            self._require_accesses(state, lambda address: FALSE)
            if not any(item.name == KIMAGE for item in heap_of(state.memory).objects):
                sentence = "without memory it returns 0"
                self._require("none", sentence, state, state.registers["x0"] == 0)
                continue
            begun = self._builder("begun", heap_of(state.memory), kimage, const(0), const(0))
            begun = self._after(state, begun, const(0))
            sentence = (
                "it returns a kimage whose list has no word, and entry and last_entry name its head (I1)"
            )
            self._require("cursor", sentence, state, And(state.registers["x0"] == kimage, begun.cursor()))

    # kimage_add_entry

    def _prove_add(self, length: Term) -> None:
        entry, built = self._given(length)
        word = entry.registers["x1"]
        entry = entry.assume(("list-words", built.is_page(word)))
        empty = constant(length) == 0

        def called(state: State, name: str, at: int) -> list[State]:
            if name != ALLOCATES:
                raise UnsupportedError(f"call of {name}, which has no contract here", at)
            asked = And(state.registers["x0"] == built.kimage, state.registers["x2"] == NO_DESTINATION)
            sentence = f"{ALLOCATES} is asked for any page that is no destination"
            self._require("asks", sentence, state, asked)
            as_it_was = self._after(state, built, length)
            kept = And(
                as_it_was.cursor(),
                as_it_was.head == built.head,
                state.memory.read(ANYWHERE) == entry.memory.read(ANYWHERE),
            )
            self._require("asks", "nothing has been stored to the list before that", state, kept)
            return self._allocated(self._clobbered(state, name), built, length)

        for step in self._run(entry, called):
            self._require_return(entry, step)
            state = step.state
            labels = {label for label, _ in state.facts}
            asked = NONE in labels or FOUND in labels
            before = self._swapped(built, length) if asked else built
            if NONE in labels:
                after = self._after(state, before, length)
                goal = And(
                    state.registers["x0"][31:0] == const(-ENOMEM, 32),
                    after.cursor(),
                    after.head == before.head,
                )
                sentence = "without a page it returns -ENOMEM, and the cursor is as it was"
                self._require("none", sentence, state, goal)
                self._require_frame(state, before, [])
            else:
                self._require_appended(state, before, word, asked, empty)
            found = self.pages.address(self.page_found) if FOUND in labels else None
            self._require_accesses(state, lambda a, f=found, b=before: self._in_list(b, a, f))

    def _swapped(self, built: ListBuilder, length: Term) -> ListBuilder:
        """The list after kimage_alloc_page, which may have given a SOURCE another page."""
        memory = Heap((self.context.image,), f"after {ALLOCATES}")
        return replace(built, read=memory.read)

    def _allocated(self, state: State, built: ListBuilder, length: Term) -> list[State]:
        """What kimage_alloc_page leaves: no page, or one that may become a list page."""
        state = replace(state, memory=self._with_cursor(heap_of(state.memory), built))
        swapped, page = self._swapped(built, length), self.pages.struct_page(self.page_found)
        known = tuple(("list-pages", fact) for _, fact in invariants(swapped))
        result = var(f"the result of {ALLOCATES}")
        none = state.with_registers(x0=const(0)).assume((NONE, result == 0), *known)
        free = (FREE, swapped.is_free(self.page_found))
        return [none, state.with_registers(x0=normal(page)).assume((FOUND, result == page), free, *known)]

    def _in_list(self, built: ListBuilder, address: Term, found: Term | None) -> Formula:
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
        after = self._after(state, before, before.length + (2 if asked else 1))
        if asked:
            after = self._with_page(after, before)
        end, full = before.length, before.chains(before.length)
        self._require("result", "it returns 0", state, state.registers["x0"][31:0] == const(0, 32))
        self._require("cursor", "entry is the next free word, which is 0 (I1)", state, after.cursor())
        sentence = "a page is chained where the last one is full, and nowhere else"
        full_here = full if asked else Not(full)
        self._require("full", sentence, state, full_here)
        self._require("word", "the given word is the last one", state, after.word(after.length - 1) == word)
        if asked:
            names = after.word(end) == (self.pages.physical(self.page_found) | IND_INDIRECTION)
            self._require("chained", "the word before it is the INDIRECTION to the new page", state, names)
        known = _labelled(state, "memstart-aligned", "list-words", FREE)
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
            self._require(
                "kept",
                "each older word is as it was",
                state,
                kept,
                *of_word,
                ("proved: where it stores", apart),
            )
            self._require("kept", "the head is as it was", state, after.head == before.head)
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
        self._require("frame", "no other word of memory changes", state, goal, other)

    # kimage_terminate

    def _prove_terminate(self, length: Term) -> None:
        entry, built = self._given(length)

        def called(state: State, name: str, at: int) -> list[State]:
            raise UnsupportedError(f"call of {name}, which has no contract here", at)

        for step in self._run(entry, called):
            self._require_return(entry, step)
            state = step.state
            after = self._after(state, built, length)
            known = () if constant(length) == 0 else instances(built, WORD)
            sentence = "the list is what it was, with DONE at its end"
            self._require("last", sentence, state, built.terminated(after, WORD), *known)
            own = And() if constant(length) == 0 else built.slot(length) != ANYWHERE
            goal = state.memory.read(ANYWHERE) == built.read(ANYWHERE)
            self._require("frame", "no other word of memory changes", state, goal, ("another word", own))
            self._require_accesses(state, lambda a: self._in_list(built, a, None))


PREFIX = {ADD: "list-add", TERMINATE: "list-end", BEGIN: "list-begin"}
"""What the names of the functions' obligations begin with."""


def pages(context: KexecContext) -> Pages:
    """Return the kernel's pages; memstart_addr is a variable, for boot sets it once.

    :raises UnsupportedError: if it is not known where the kernel's words or struct pages are.
    """
    start, size = context.page_offset, context.page_size
    end, memstart = linear_map_end(start, size), var("memstart_addr")
    addresses = AddressMap(var("kimage_voffset"), memstart, start, end, context.globals.folds_ttbr)
    return Pages(addresses, size, first_struct_page(context))


def any_segment() -> Segment:
    """Return a segment of which nothing is known."""
    return Segment(var("segment.mem"), var("segment.memsz"))


def invariants(built: ListBuilder) -> Facts:
    """The invariants at the list's end."""
    if constant(built.length) == 0:
        return ()
    last = built.list_page(built.rank_of(built.length))
    return (
        ("a list with a word", built.length != 0),
        ("I1", built.cursor()),
        ("I2 of the head", built.shape(const(0))),
        ("I3 of the last list page", last),
    )


def _labelled(state: State, *labels: str) -> Facts:
    """The facts of ``state`` that have one of ``labels``."""
    return tuple(fact for fact in state.facts if fact[0] in labels)


def instances(built: ListBuilder, i: Term | None, j: Term | None = None) -> Facts:
    """The invariants at word ``i`` and its list page, and at the list page of rank ``j``."""
    at_word = (
        () if i is None else (("I2", built.shape(i)), ("I3 of its page", built.list_page(built.rank_of(i))))
    )
    return (*at_word, *((("I3", built.list_page(j)),) if j is not None else ()))
