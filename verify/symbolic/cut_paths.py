"""What holds at the cutpoints of a function with loops of any shape, and every path between them.

Each cycle has a cutpoint. On every arrival there, what a register or a word of the stack frame holds is one
and the same value over the entry's variables, or has known bits, or is a word of the heap. Some branches are
decided by what a register holds. These facts are found by running the paths until nothing changes, and are
built into the state at the cutpoint. That they hold on each arrival is a proof obligation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import networkx
from kexec_verify.arm64.cache import Lines
from kexec_verify.arm64.execute import Exit, Step, execute
from kexec_verify.arm64.lift import SIZE, Code, successors
from kexec_verify.arm64.state import GENERAL, SYSTEM, State, unknown_ghosts, unknown_registers
from kexec_verify.errors import LimitError
from kexec_verify.logic import (
    TRUE,
    And,
    Formula,
    Term,
    application,
    const,
    constant,
    offset_from,
    same,
    var,
    variables,
)
from kexec_verify.logic import replace as replaced
from kexec_verify.masks import known_one, known_zero
from kexec_verify.memory import WORD_BYTES
from kexec_verify.obligation import Obligation
from kexec_verify.symbolic.explore import joined
from kexec_verify.symbolic.heap import Heap, earlier_word, heap_of, is_heap_word
from kexec_verify.symbolic.objects import STACK_FRAME

ENTRY = "entry"
"""The entry's variables and unknown functions are named ``…@entry``."""
MAX_EXECUTED = 100_000  # instructions, over all paths of a function; more is a LimitError
_REGISTERS = (*GENERAL, "sp", *SYSTEM)

_HELD = var("what a register holds")

type Slot = str | int
"""A register, or the offset of a word of the stack frame from its base."""


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of a 64-bit value on every arrival.

    :param value: the value itself, a term over the entry's variables; None if there is none.
    :param zeros: bits that are 0; ``ones``: bits that are 1.
    :param word: it was loaded from the heap.
    """

    value: Term | None
    zeros: int
    ones: int
    word: bool = False

    def join(self, other: Known) -> Known:
        """Return what is known of a value of which this or ``other`` is known."""
        one = self.value is not None and other.value is not None and same(self.value, other.value)
        word = self.word and other.word
        return Known(self.value if one else None, self.zeros & other.zeros, self.ones & other.ones, word)

    def __bool__(self) -> bool:
        return self.value is not None or bool(self.zeros or self.ones or self.word)

    def is_like(self, other: Known | None) -> bool:
        """Return whether as much is known by ``other``, which this was joined from."""
        return other is not None and (self.value is None, self.zeros, self.ones, self.word) == (
            other.value is None,
            other.zeros,
            other.ones,
            other.word,
        )


@dataclass
class CutPaths:
    """The paths of one function between its cutpoints.

    :param entry: its state on entry, with a Heap for its memory.
    :param leave: the steps that follow one by which control leaves the function; None if the path ends.
    :param meaning: the state after an instruction that the engine has no model of, by its address.
    :param modelled: whether ``meaning`` has the instruction of that encoding.
    :param joins: cut also where so many ways or more come together: fewer paths, of which less is known.
    :param uncut: where ways come together that are not to be cut, if no cycle needs it.
    :ivar graph: of the addresses that can be reached.
    :ivar starts: the state at the entry and at each cutpoint.
    :ivar ends: the last step of each path from there.
    """

    code: Code
    entry: State
    leave: Callable[[Step], list[Step] | None]
    meaning: Callable[[int, State], State]
    modelled: Callable[[int], bool]
    joins: int
    uncut: frozenset[int] = frozenset()
    starts: dict[int, State] = field(default_factory=dict)
    ends: dict[int, list[Step]] = field(default_factory=dict)
    executed: int = 0
    _known: dict[int, dict[Slot, Known]] = field(default_factory=dict)
    _decided: dict[int, dict[tuple[str, int], tuple[str, Formula]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.graph = graph = self._graph()
        joins = frozenset(at for at, degree in graph.in_degree if degree >= self.joins) - self.uncut
        self.cuts = cutpoints(graph, self.code.address, joins)

    def _graph(self) -> networkx.DiGraph:
        """The graph of the addresses that can be reached, a call by register and its return among them."""
        graph = networkx.DiGraph()
        graph.add_node(self.code.address)
        todo = [self.code.address]
        while todo:
            at = todo.pop()
            modelled = self.modelled(self.code.word(at))
            ways = () if modelled else self.code.ways(at)
            if any(way.call_target in self.code.final for way in ways):
                continue
            going = [at + SIZE] if modelled else [to for way in ways for to in successors(way)]
            for target in (target for target in going if target in self.code):
                if target not in graph:
                    todo.append(target)
                graph.add_edge(at, target)
        return graph

    def run(self) -> None:
        """Find every path, and what holds at the cutpoints.

        :raises UnsupportedError: for an instruction without a meaning.
        :raises LimitError: for too many paths.
        """
        todo = {self.code.address}
        while todo:
            start = min(todo)  # outer loops first, so that what is known inside settles once
            todo.remove(start)
            self.starts[start] = self._state(start)
            self.ends[start] = list(self._paths(start))
            for step in self.ends[start]:
                if isinstance(step.then, int) and self._arrive(step.then, step.state):
                    todo.add(step.then)

    def obligations(self, name: str) -> list[Obligation]:
        """Return, under ``name``, that what is taken to hold at each cutpoint holds on each arrival."""
        found: dict[tuple[int, int], Obligation] = {}
        for step in (step for steps in self.ends.values() for step in steps):
            if isinstance(step.then, int):
                goal = And(*self._holds(step.then, step.state))
                sentence = f"registers and frame are as they are taken to be at {self.code.where(step.then)}"
                # Bits are known of a value whatever the path: no branch is needed.
                found.setdefault((step.then, goal.hash()), Obligation(name, sentence, (), goal, step.then))
        return list(found.values())

    def known_at(self, cut: int) -> list[str]:
        """Return what is taken to hold at a cutpoint, as formulas."""
        return [line for slot, fact in self._known.get(cut, {}).items() for line in _lines(slot, fact)]

    def _paths(self, start: int) -> Iterator[Step]:
        """Yield the last step of each path from ``start`` to a cutpoint or out of the function."""
        todo = [Step(self.starts[start], start)]
        first = True
        while todo:
            step = todo.pop()
            at = step.then
            if isinstance(at, int) and at not in self.code:
                at = Exit("br", const(at))
                step = Step(step.state, at)
            if isinstance(at, Exit):
                further = self.leave(step)
                todo += further or []
                if further is None:
                    yield step
            elif at in self.cuts and not first:
                yield step
            else:
                todo += self._execute(at, step.state)
            first = False

    def _execute(self, at: int, state: State) -> list[Step]:
        self.executed += 1
        if self.executed > MAX_EXECUTED:
            raise LimitError(f"more than {MAX_EXECUTED} instructions on the paths of {self.code.name}")
        if self.modelled(self.code.word(at)):
            after = self.meaning(at, state)
            return [Step(replace(after, trace=(*state.trace, at)), at + SIZE)]
        # What caches hold is not followed here; it would keep the sides of a select apart.
        ways = self.code.ways(at)
        steps = [step for way in ways for step in execute(way, state, self.code.el)]
        # Both ways of an instruction that is one of two are paths of their own.
        return joined(
            [
                replace(s, state=replace(s.state, lines=state.lines, fetch=state.fetch, ghosts=state.ghosts))
                for s in steps
            ],
            state,
        )

    # What holds at a cutpoint

    def _state(self, at: int) -> State:
        if at == self.code.address:
            return self.entry
        tag, known = f"{at:#x}", self._known[at]
        memory = Heap(self.entry.memory.objects, tag)  # type: ignore[attr-defined]
        registers = unknown_registers(tag)
        for slot, fact in known.items():
            value = fact.value
            if value is None and fact.word:
                value = earlier_word(f"{slot}@{tag}")
            elif value is None:
                value = var(f"{slot}@{tag}") & const(~fact.zeros) | const(fact.ones)
            if isinstance(slot, str):
                registers[slot] = value
            else:
                memory = heap_of(memory.storing(STACK_FRAME, slot, value))
        state = State(registers, unknown_ghosts(tag), memory, Lines(f"L@{tag}"), fetch=Lines(f"F@{tag}"))
        decided = self._decided[at].items()
        facts = ((label, replaced(fact, _HELD, registers[name])) for (name, _), (label, fact) in decided)
        return state.assume(*facts)

    def _arrive(self, cut: int, state: State) -> bool:
        """Take note of an arrival; return whether less is known at ``cut`` than before."""
        new, old = self._known_of(state), self._known.get(cut)
        decided = _decided(state)
        if old is None:
            self._known[cut], self._decided[cut] = new, decided
            return True
        before = len(self._decided[cut])
        self._decided[cut] = {key: fact for key, fact in self._decided[cut].items() if key in decided}
        both = {slot: fact.join(new[slot]) for slot, fact in old.items() if slot in new}
        self._known[cut] = {slot: fact for slot, fact in both.items() if fact}
        fewer = len(both) < len(old) or len(self._decided[cut]) < before
        return fewer or any(not fact.is_like(old[slot]) for slot, fact in both.items())

    def _known_of(self, state: State) -> dict[Slot, Known]:
        found, loaded = {}, self._loaded(state)
        for slot, value in self._slots(state).items():
            stable = value if all(name.endswith(f"@{ENTRY}") for name in _named(value)) else None
            word = isinstance(slot, str) and value.hash() in loaded
            fact = Known(stable, known_zero(value), known_one(value), word)
            if fact:
                found[slot] = fact
        return found

    @staticmethod
    def _loaded(state: State) -> set[int]:
        """The values of registers that are words of the heap, as it is now or was when they were loaded."""
        memory, found = heap_of(state.memory), set()
        for value in state.registers.values():
            applied = application(value)
            if applied is not None and is_heap_word(applied.function):
                found.add(value.hash())
        for access in state.accesses:
            if access.kind == "load" and access.size == WORD_BYTES and memory.is_heap(access.address):
                found.add(access.value.hash())
        return found

    @staticmethod
    def _slots(state: State) -> dict[Slot, Term]:
        """The values of registers, and of the words that were stored into the frame, at or above SP."""
        found: dict[Slot, Term] = {
            name: state.registers[name]
            for name in _REGISTERS
            if state.registers[name].length == WORD_BYTES * 8
        }
        memory = heap_of(state.memory)
        base = next(item.base for item in memory.objects if item.name == STACK_FRAME)
        lowest = offset_from(state.sp, base)
        words = memory.stored_words(STACK_FRAME)
        found |= {at: word for at, word in words.items() if lowest is not None and at >= lowest}
        return found

    def _holds(self, cut: int, state: State) -> Iterator[Formula]:
        values, known = self._slots(state), self._known[cut]
        for slot, fact in known.items():
            value = values[slot]
            if fact.value is not None:
                yield value == fact.value
            elif not fact.word:  # a word of the heap is any value
                yield (value & fact.zeros) == 0
                yield (value & fact.ones) == fact.ones
        has = {fact.hash() for _, fact in state.facts}
        for (name, _), (_, fact) in self._decided[cut].items():
            here = replaced(fact, _HELD, values[name])
            yield TRUE if here.hash() in has else here


def _lines(slot: Slot, fact: Known) -> Iterator[str]:
    name = slot if isinstance(slot, str) else f"the word at the frame's end {slot:+#x}"
    number = constant(fact.value) if fact.value is not None else None
    if number is not None:
        yield f"{name} = {number:#x}"
    elif fact.value is not None and fact.value.op == "BVS":
        yield f"{name} = {fact.value.args[0].removesuffix(f'@{ENTRY}')} on entry"
    elif fact.value is not None:
        yield f"{name} = a value that is computed from the entry's"
    elif fact.word:
        yield f"{name} = a word that was loaded from the heap"
    else:
        yield from (
            f"{name} & {bits:#x} = {value}"
            for bits, value in ((fact.zeros, "0"), (fact.ones, hex(fact.ones)))
            if bits
        )


def _decided(state: State) -> dict[tuple[str, int], tuple[str, Formula]]:
    """The branches that were decided by what one register still holds, by the register and what of it."""
    found = {}
    holders = [(n, v) for n, v in state.registers.items() if v.op == "BVS" and v.length == _HELD.length]
    for label, fact in state.facts:
        for name, value in holders:
            if fact.variables == value.variables:
                held = replaced(fact, value, _HELD)
                found[name, held.hash()] = label, held
    return found


def _named(value: Term) -> list[str]:
    """The variables of ``value``; for an application of an unknown function, the function."""
    found = []
    for name in variables([value]):
        applied = application(var(name)) if "@" in name else None
        found.append(applied.function if applied is not None else name)
    return found


def cutpoints(graph: networkx.DiGraph, entry: int, joins: frozenset[int]) -> frozenset[int]:
    """Return addresses of which each cycle of ``graph`` has one: ``joins``, targets of retreating edges.

    None but those joins can be left out: a needless one would separate a branch from what depends on it.
    """
    found: set[int] = set()
    done: set[int] = set()
    on_path = {entry}
    stack = [(entry, iter(sorted(graph.successors(entry))))]
    while stack:
        node, following = stack[-1]
        target = next(following, None)
        if target is None:
            stack.pop()
            on_path.discard(node)
            done.add(node)
        elif target in on_path:
            found.add(target)
        elif target not in done:
            on_path.add(target)
            stack.append((target, iter(sorted(graph.successors(target)))))
    found |= joins
    for at in sorted(found - joins, reverse=True):
        rest = graph.subgraph(node for node in graph if node == at or node not in found)
        if networkx.is_directed_acyclic_graph(rest):
            found.remove(at)
    return frozenset(found)
