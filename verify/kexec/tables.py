"""The copy of the linear map: each leaf is writable, and maps what the kernel's own entry maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import networkx
from kexec_verify.arm64.execute import execute
from kexec_verify.arm64.lift import Code, successors
from kexec_verify.arm64.state import GENERAL, Access, State
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.choices import with_keys
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.protections import Protections
from kexec_verify.kexec.table_paths import TablePaths, modelled
from kexec_verify.logic import (
    FALSE,
    TRUE,
    Formula,
    Not,
    Term,
    application,
    offset_from,
    replace,
    var,
)
from kexec_verify.memory import WORD_BYTES
from kexec_verify.obligation import Facts, Obligation
from kexec_verify.specs import page_tables as spec
from kexec_verify.specs.contracts import contract
from kexec_verify.symbolic.cut_paths import CutPaths
from kexec_verify.symbolic.explore import Decide
from kexec_verify.symbolic.heap import HEAP, heap_of, is_heap_word

NAME = "trans_pgd_create_copy"
CUT = "tables-cut"
"""The name of the obligations that what is taken to hold at a cutpoint holds on each arrival."""
_JOINS = 2
_OTHERS = {
    "set_swapper_pgd": "of an entry of swapper_pg_dir, which no page that is taken is (arch/arm64/mm/mmu.c)",
    "preempt_schedule": "runs other tasks (kernel/sched/core.c)",
    "preempt_schedule_notrace": "runs other tasks (kernel/sched/core.c)",
}
"""Functions without a contract that it may call: none of them builds the copy."""


def copying_code(context: KexecContext) -> Code:
    """The function that copies the tables, with the small functions that are run in place of its calls.

    :raises UnsupportedError: if the kernel has no such function, or several clones of it.
    """
    return context.with_callees(NAME, frozenset(_OTHERS))


@dataclass
class TableCopy:
    """The proof of one kernel's trans_pgd_create_copy, as far as it is about the values of entries.

    :param both: each site of a static key is followed both ways.
    :ivar choices: the sites that are, and what decides there.
    :ivar obligations: what it makes; ``covered``: the instructions that some path runs.
    :ivar needs_dirty: a leaf is writable only because of PTE_DIRTY in the source.
    :ivar known: what is taken to hold at each cutpoint, as formulas.
    """

    context: KexecContext
    decide: Decide
    both: bool = False
    obligations: list[Obligation] = field(default_factory=list)
    covered: set[int] = field(default_factory=set)
    needs_dirty: bool = False
    known: dict[int, list[str]] = field(default_factory=dict)
    protections: Protections | None = None
    _made: set[tuple[object, ...]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.code = copying_code(self.context)
        self.choices: dict[int, str] = {}
        if self.both:
            self.code, self.choices = with_keys(self.context.kernel, self.code)

    def prove(self) -> None:
        """Make the obligations.

        :raises UnsupportedError: for code that the proof does not cover.
        :raises LimitError: for too many paths.
        """
        paths = self._paths()
        self.obligations += paths.obligations(CUT)
        self.known = {cut: paths.known_at(cut) for cut in sorted(paths.cuts)}
        sites = self._page_sites(paths)
        leaves = 0
        for state, access in _stores(paths):
            leaves += self._store(paths.entry, state, access, _site(paths, access) in sites)
        self.covered = {at for steps in paths.ends.values() for step in steps for at in step.state.trace}
        sentence = f"{NAME} stores entries of pages"
        self.obligations.append(Obligation("tables-leaf", sentence, (), TRUE if leaves else FALSE))
        if self.needs_dirty:
            self.protections = Protections(self.context, self.decide)
            self.obligations += self.protections.prove()

    def _paths(self) -> CutPaths:
        """Run the function, without the cuts that hide of which entry a store is made.

        Where the ways of an entry come together, as of one with PTE_DIRTY and one without it, a register
        holds one of two values, of which a cut leaves nothing.
        """
        uncut: frozenset[int] = frozenset()
        while True:
            paths = TablePaths(self.context, self.code, _JOINS, self._called, uncut).run()
            stores = _stores(paths)
            hiding = {state.trace[0] for state, access in stores if self._is_unclear(paths.entry, access)}
            if not hiding & paths.cuts - uncut:
                return paths
            uncut |= hiding & paths.cuts

    def _is_unclear(self, entry: State, access: Access) -> bool:
        """Nothing says what the store of a whole entry is: it is no loaded entry, and need not be a table."""
        if access.size != WORD_BYTES or _is_result(entry, access) or _source(access) is not None:
            return False
        return not self.decide(access.before.facts[: access.known], spec.is_table(access.value))

    def _page_sites(self, paths: CutPaths) -> set[int]:
        """The stores of the last level: their iteration goes on by one page, and takes none for a table."""
        graph, entry = paths.graph, paths.entry
        sites = {_site(paths, access) for _, access in _stores(paths)}
        found = set()
        for site in sites:
            ways = [w for n in graph.successors(site) if (w := _way(graph, n, site)) is not None]
            cycle = min(ways, key=len, default=[])
            known = [at for at in cycle if not modelled(self.code.word(at))]
            if not any(self._takes(at) for at in known) and any(self._advances(at, entry) for at in known):
                found.add(site)
        return found

    def _takes(self, at: int) -> bool:
        """The instruction at ``at`` calls what a register holds, or what is run in place of it may do so."""
        if "CALLIND" in self.code.at(at).opcodes:
            return True
        target = self.code.at(at).call_target
        piece = next((p for p in self.code.continuations if p.address == target), None)
        if piece is None:
            return False
        known = [place for place in piece.addresses if not modelled(self.code.word(place))]
        ways = (to for place in known for to in successors(self.code.at(place)))
        goes_on = any(to not in piece and to in self.code for to in ways)
        leaves = any("BRANCHIND" in self.code.at(place).opcodes for place in known)
        return goes_on or leaves or any(map(self._takes, known))

    def _advances(self, at: int, state: State) -> bool:
        """The instruction at ``at`` adds a page's size to a register, in place, or subtracts it."""
        if not {"INT_ADD", "INT_SUB"}.intersection(self.code.at(at).opcodes):
            return False
        after = next(iter(execute(self.code.at(at), state))).state.registers
        distances = {offset_from(after[name], state.registers[name]) for name in GENERAL}
        return not distances.isdisjoint((self.context.page_size, -self.context.page_size))

    def _called(self, state: State, names: Sequence[str], at: int) -> State:
        """A call by register takes a page. Others are of functions that build no tables."""
        if not any(name == "*" or contract(name) is not None or name in _OTHERS for name in names):
            raise UnsupportedError(f"call of {names[0]}, which has no contract", at)
        return state

    def _store(self, entry: State, state: State, access: Access, last_level: bool) -> int:
        """Owe of one store what it must be; return whether it is one of a page's entry."""
        facts = _about(access.before.facts[: access.known], access.value)
        where = self.code.where(access.at)
        source = _source(access)

        def require(kind: str, sentence: str, goal: Formula, *further: tuple[str, Formula]) -> None:
            sentence = f"the store at {where}: {sentence}"
            required = Obligation(f"tables-{kind}", sentence, (*facts, *further), goal, access.at)
            key = (sentence, goal.hash(), *(fact.hash() for _, fact in required.hypotheses))
            if key not in self._made:
                self._made.add(key)
                self.obligations.append(required)

        if _is_result(entry, access):
            return 0
        if access.size != WORD_BYTES:
            require("leaf", "it is of a whole entry", FALSE)
        elif source is not None:
            self._require_leaf(source, access.value, facts, last_level, require)
            return last_level
        else:
            level = FALSE if last_level else spec.is_table(access.value)
            require(
                "table", "what is made of no entry of the source is a table, and above the last level", level
            )
        return 0

    def _require_leaf(
        self, source: Term, copy: Term, facts: Facts, last_level: bool, require: Require
    ) -> None:
        kept = ("linear-map-kept", spec.accessed(source))
        require(
            "leaf",
            "the copy has the source's output address and attributes",
            spec.same_place(source, copy),
        )
        require("leaf", "the copy is valid where the source is", spec.present(source, copy))
        if not last_level:
            require("leaf", "it is no table of the source", Not(spec.is_table(source)))
        further: Facts = (kept,)
        if not self.decide((*facts, kept), spec.writable(copy)):
            self.needs_dirty = True
            further = (kept, ("linear-map-kept", spec.dirty_if_read_only(source)))
        require("leaf", "the copy is writable", spec.writable(copy), *further)


type Require = Callable[..., None]


def _is_result(entry: State, access: Access) -> bool:
    """The store is that of the result, to where the caller asked for it."""
    return offset_from(access.address, entry.registers["x1"]) == 0


def _source(access: Access) -> Term | None:
    """The word of the heap, loaded before, that is all that the stored value is made of; None if none is."""
    memory = heap_of(access.before.memory)
    loaded = [
        other.value
        for other in access.before.accesses
        if other.kind == "load" and other.size == WORD_BYTES and memory.is_heap(other.address)
    ]
    held = [word for word in _variables(access.value) if _is_word(word)]
    for word in (*reversed(loaded), *held):
        rest = replace(access.value, word, var("the source entry"), shallow=True)
        if rest is not access.value and not any(map(_is_word, _variables(rest))):
            return word
    return None


def _about(facts: Facts, value: Term) -> Facts:
    """Those of ``facts`` that speak of nothing but what ``value`` is made of: no other is needed."""
    return tuple((label, fact) for label, fact in facts if fact.variables <= value.variables)


def _variables(value: Term) -> list[Term]:
    return [var(name) for name in sorted(value.variables)]


def _is_word(term: Term) -> bool:
    """``term`` is a word of the heap."""
    applied = application(term)
    return applied is not None and is_heap_word(applied.function)


def _stores(paths: CutPaths) -> Iterator[tuple[State, Access]]:
    """Each store to the heap, once for all paths that go on from it."""
    seen: set[tuple[object, ...]] = set()
    for steps in paths.ends.values():
        for step in steps:
            for access in step.state.accesses:
                if (
                    access.kind != "store"
                    or heap_of(access.before.memory).find(access.address)[0] is not HEAP
                ):
                    continue
                facts = tuple(fact.hash() for _, fact in access.before.facts[: access.known])
                place = _site(paths, access)
                key = (place, access.at, access.address.hash(), access.value.hash(), facts)
                if key not in seen:
                    seen.add(key)
                    yield step.state, access


def _site(paths: CutPaths, access: Access) -> int:
    """The store's place in the function's own control flow: the call, if the function that stores is run in
    place of one.
    """
    return next(at for at in (access.at, *reversed(access.before.trace)) if at in paths.graph)


def _way(graph: networkx.DiGraph, start: int, end: int) -> list[int] | None:
    """The shortest path of ``graph`` from ``start`` to ``end``; None if there is none."""
    try:
        found: list[int] = networkx.shortest_path(graph, start, end)
    except networkx.NetworkXNoPath:
        return None
    return found
