"""Run kexec_core's functions that build the list: states with a list of any length, and every path."""

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
from kexec_verify.specs.image_builder import ListBuilder, Pages, Segment
from kexec_verify.symbolic.explore import Decide, Explorer
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
KIMAGE_BYTES = 4096
"""More than struct kimage has."""
_TASK, _IMAGE, _TASK_BYTES = "the task", "the image", 16384
_KEPT = tuple(name for name in (*GENERAL, "sp", *SYSTEM) if name not in CLOBBERED)
PREFIX = {ADD: "list-add", TERMINATE: "list-end", BEGIN: "list-begin"}
"""What the names of the functions' obligations begin with."""


@dataclass
class ListCode:
    """One function of one kernel that builds the list: its states on entry and its paths.

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

    # States

    def memory(self, objects: tuple[Object, ...], tag: str = "entry") -> Heap:
        return self.with_globals(Heap((self.context.image, *objects), tag))

    def with_globals(self, memory: Heap) -> Heap:
        """``memory`` with the globals that boot sets once."""
        address = self.context.globals.addresses.get("memstart_addr")
        if address is None:
            raise UnsupportedError("kernel whose memstart_addr is not known")
        return heap_of(memory.storing(_IMAGE, address, self.pages.addresses.memstart_addr))

    def entry_state(self, *further: Object) -> State:
        registers = unknown_registers(self.name)
        frame = Object(STACK_FRAME, registers["sp"], -FRAME_BYTES, 0)
        task = Object(_TASK, registers["sp_el0"], 0, _TASK_BYTES)
        memory = self.memory((frame, task, *further))
        state = State(registers, unknown_ghosts(self.name), memory, Lines("L@entry"), fetch=Lines("F@entry"))
        whole = aligned(self.pages.addresses.memstart_addr, self.context.page_size)
        return state.assume(("memstart-aligned", whole))

    def given(self, length: Term) -> tuple[State, ListBuilder]:
        """The state on entry with a kimage in x0, and its list of ``length`` words."""
        kimage = unknown_registers(self.name)["x0"]
        state = self.entry_state(Object(KIMAGE, kimage, 0, KIMAGE_BYTES))
        memory = heap_of(state.memory)
        built = self.builder("entry", memory, kimage, length, self.context.field(state, kimage, 0))
        memory = self.with_cursor(memory, built)
        built = replace(built, read=memory.read)
        state = replace(state, memory=memory)
        return state.assume(*invariants(built)), built

    def builder(self, tag: str, memory: Heap, kimage: Term, length: Term, head: Term) -> ListBuilder:
        """The list in ``memory``, whose fields name the places that I1 says."""
        found = ListBuilder(
            self.pages, kimage, head, kimage, kimage, memory.read, length,
            Function(f"page@{tag}"), Function(f"rank@{tag}"), self.segment,
        )  # fmt: skip
        if constant(length) == 0:
            return replace(found, head=const(0))
        last = found.pages.address(found.page(found.rank_of(length))) + self.context.page_size - WORD_BYTES
        return replace(found, entry=normal(found.slot(length)), last_entry=normal(last))

    def with_cursor(self, memory: Heap, built: ListBuilder) -> Heap:
        at = self.context.layout
        offsets = (at.head, at.entry, at.last_entry)
        for offset, value in zip(offsets, (built.head, built.entry, built.last_entry), strict=True):
            memory = heap_of(memory.storing(KIMAGE, offset, value))
        return memory

    def after(self, state: State, built: ListBuilder, length: Term) -> ListBuilder:
        """What struct kimage and memory hold at the end of a path."""
        at = self.context.layout
        head, entry, last = (
            self.context.field(state, built.kimage, o) for o in (at.head, at.entry, at.last_entry)
        )
        read = state.memory.read
        return replace(built, head=head, entry=entry, last_entry=last, read=read, length=normal(length))

    # Running

    def run(self, entry: State, leave: Callable[[State, str, int], list[State]]) -> list[Step]:
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
            if any("CALL" in self.code.at(before).opcodes for before in step.state.trace[:-1]):
                # What a call returns has one name.
                raise UnsupportedError(f"second call on a path of {self.name}", at)
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

    def clobbered(self, state: State, name: str) -> State:
        """The state after a call of which nothing is known, but that it keeps to AAPCS64."""
        memory = heap_of(state.memory)
        base = next(item.base for item in memory.objects if item.name == STACK_FRAME)
        below = offset_from(state.sp, base)
        if below is None:
            raise UnsupportedError("stack pointer at an unknown distance from its value at entry")
        memory = heap_of(memory.losing(STACK_FRAME, below)).forgetting(f"after {name}")
        registers = {r: var(f"{r} after {name}", width(r)) for r in CLOBBERED}
        return replace(state.with_registers(**registers), memory=self.with_globals(memory))

    def require(
        self, kind: str, sentence: str, state: State, goal: Formula, *further: tuple[str, Formula]
    ) -> None:
        at = state.trace[-1]
        name = f"{PREFIX[self.name]}-{kind}"
        facts = (*state.facts, *further)
        self.obligations.append(Obligation(name, sentence, facts, goal, at, state.trace))

    def require_return(self, entry: State, step: Step) -> None:
        assert isinstance(step.then, Exit)
        kept = (step.state.registers[name] == entry.registers[name] for name in _KEPT)
        goal = And(step.then.target == entry.registers["x30"], *kept)
        self.require("returns", "it returns to its caller with SP, x19 to x29 as they were", step.state, goal)

    def require_accesses(self, state: State, allowed: Callable[[Term], Formula]) -> None:
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


def labelled(state: State, *labels: str) -> Facts:
    """The facts of ``state`` that have one of ``labels``."""
    return tuple(fact for fact in state.facts if fact[0] in labels)


def instances(built: ListBuilder, i: Term | None, j: Term | None = None) -> Facts:
    """The invariants at word ``i`` and its list page, and at the list page of rank ``j``."""
    at_word = (
        () if i is None else (("I2", built.shape(i)), ("I3 of its page", built.list_page(built.rank_of(i))))
    )
    return (*at_word, *((("I3", built.list_page(j)),) if j is not None else ()))
