"""Prove the contracts of callees from their own bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from kexec_verify.arm64 import cache
from kexec_verify.arm64.cache import CTR_EL0
from kexec_verify.arm64.execute import Exit, Step
from kexec_verify.arm64.lift import Code
from kexec_verify.arm64.state import (
    GENERAL,
    GHOSTS,
    SYSTEM,
    TRANSLATION_INVALIDATED,
    TRANSLATION_INVALIDATING,
    TRANSLATION_SYNCED,
    TRANSLATION_WRITTEN,
    UNSYNCED,
    State,
)
from kexec_verify.kexec.calls import (
    CLOBBERED,
    ENDS,
    POINTED_BYTES,
    TOUCHED,
    Calls,
    clobbered,
    in_object,
    objects,
    range_is_sane,
    stack_obligations,
)
from kexec_verify.kexec.choices import MEANING, protects_guests
from kexec_verify.kexec.context import FRAME_BYTES, KexecContext
from kexec_verify.kexec.effects import effect_obligations
from kexec_verify.kexec.line_lemmas import Lines, lemma_on_sums, prove_in_distances
from kexec_verify.logic import (
    FALSE,
    TRUE,
    And,
    Formula,
    If,
    Implies,
    Not,
    Or,
    Term,
    aligned,
    const,
    ule,
    ult,
    var,
    within,
)
from kexec_verify.obligation import Facts, Obligation
from kexec_verify.specs.contracts import Contract
from kexec_verify.symbolic.explore import ANYWHERE, Decide, Explorer
from kexec_verify.symbolic.objects import SHADOW_CALL_STACK, STACK_FRAME, Object
from kexec_verify.symbolic.segments import Segment

PAGE = 4096  # bytes; what is mapped is made of pages that are no smaller
_BY_ADDRESS = frozenset({"DC_CIVAC", "DC_CVAC", "DC_CVAU", "DC_IVAC", "IC_IVAU"})

type Require = Callable[..., None]


def _no_worse(name: str, after: State, before: State) -> Formula:
    """A ghost component is unchanged, except that a change that awaited an ISB or a DSB may have got one."""
    got, was = after.ghosts[name], before.ghosts[name]
    if name == "translation":
        done = And(was == TRANSLATION_INVALIDATING, got == TRANSLATION_INVALIDATED)
        return Or(got == was, And(was == TRANSLATION_WRITTEN, got == TRANSLATION_SYNCED), done)
    return Or(got == was, got == 0) if name in ("unsynced", *UNSYNCED.values()) else got == was


def _synchronized(state: State) -> bool:
    """An ISB was executed."""
    return any(event.name == "InstructionSynchronizationBarrier" for event in state.events)


def ctr_legal() -> Formula:
    """The assumption ``ctr-legal``, of the line sizes of both caches."""
    sizes = (CTR_EL0[19:16], CTR_EL0[3:0])
    return And(*(And(ule(const(2, 4), size), ule(size, const(9, 4))) for size in sizes))


@dataclass
class Callee:
    """The proof that one callee satisfies its contract.

    :param address: its address, if known: several functions may have this name.
    :param segments: what was explored, if it has no loop.
    """

    context: KexecContext
    name: str
    contract: Contract
    decide: Decide
    address: int | None = None
    obligations: list[Obligation] = field(default_factory=list)
    covered: set[int] = field(default_factory=set)
    segments: list[Segment] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.code: Code = self.context.code(self.name, self.address)

    def prove(self) -> dict[str, tuple[int, Contract]]:
        """Add the obligations that the bytes satisfy the contract; return the contracts of its own callees.

        :raises UnsupportedError: for code that the proof does not cover.
        """
        code = self.code
        pointed = tuple(
            Object(what, self.context.bare_entry(self.name).registers[register], 0, POINTED_BYTES)
            for register, what in self.contract.points.items()
        )
        entry = self.context.bare_entry(self.name, *pointed)
        entry = self._as_chosen(entry.assume(("ctr-legal", ctr_legal()), *self._requires(entry)))
        calls = Calls(self.context, code, decide=self.decide)
        explorer = Explorer(code, frozenset(), self.decide, (), f"contract-{self.name}-", calls.leave)
        ends = explorer.run(entry, code.address)
        if not explorer.entered:
            self.segments = [Segment(code.address, entry, tuple(ends))]
        for step in ends:
            if not (isinstance(step.then, Exit) and step.then.kind == ENDS):
                self._require_end(code, entry, step, explorer)
        self.covered = explorer.covered
        for required in explorer.obligations:
            if required.name.endswith("-kept") and "cache lines" in required.sentence:
                self.obligations += prove_in_distances(
                    required, self._lines(explorer), self.decide, lambda _: ()
                )
            else:
                self.obligations.append(required)
        self.obligations += calls.obligations
        for iteration in explorer.iterations:
            self._require_memory(code, iteration)
            self._require_maintenance(code, entry, iteration)
        states = [*(step.state for step in ends), *explorer.iterations]
        self.obligations += stack_obligations(f"contract-{self.name}-sp", code, entry, states)
        self._require_effects(calls, entry, states)
        return calls.used

    def _as_chosen(self, entry: State) -> State:
        """The entry on a machine on which the choices are set that the callee's bytes are made for.

        The word that is read in place of CTR_EL0 has no longer lines than this CPU. Maintenance by address
        reaches at least the shorter line around it, so that word is CTR_EL0 here.
        """
        found = self.context
        if found.sanitised_ctr is not None:
            entry = replace(entry, memory=entry.memory.store(const(found.sanitised_ctr), CTR_EL0))
        if found.variant is not None and protects_guests(found.variant.choices):
            entry = entry.assume((MEANING, found.stub_below(entry)))
        return entry

    @staticmethod
    def _lines(explorer: Explorer, what: str | None = None) -> list[Lines]:
        """Return the lines that the callee's loops maintain, of one cache or of both."""
        found = []
        for loop in explorer.entered:
            if loop.shape.maintained is not None and loop.shape.maintained[1] != "cvau":
                kind = "instruction" if loop.shape.maintained[1] == "ivau" else "data"
                found.append(Lines(kind, loop))
        return [item for item in found if what in (None, item.what)]

    def _requires(self, entry: State) -> Facts:
        ranges = [ask for ask in (self.contract.cleans, self.contract.fetches) if ask is not None]
        found: Facts = ()
        for start, end in (ask(entry.registers) for ask in ranges):
            shown = self.context.address_map(entry).shows(start, end)
            found = (*found, ("the range is given in order", range_is_sane(start, end)))
            found = (*found, ("the linear map shows the range", shown))
        return found

    def _require_end(self, code: Code, entry: State, step: Step, explorer: Explorer) -> None:
        state, path = step.state, step.state.trace
        at = path[-1]

        def require(kind: str, sentence: str, goal: Formula, *further: tuple[str, Formula]) -> None:
            name = f"contract-{self.name}-{kind}"
            self.obligations.append(Obligation(name, sentence, (*state.facts, *further), goal, at, path))

        returns = isinstance(step.then, Exit) and step.then.kind == "ret"
        target = step.then.target if isinstance(step.then, Exit) else const(0)
        back = target == entry.registers["x30"] if returns else FALSE
        require("returns", f"{self.name} returns to its caller at {code.where(at)}", back)
        calls = Calls(self.context, code)
        free = clobbered(self.context, self.name, self.contract)
        kept = [n for n in (*GENERAL, "sp") if n not in free]
        kept += [n for n in SYSTEM if n not in self.contract.changes]
        same = And(*(state.registers[n] == entry.registers[n] for n in kept))
        also = [n for n in kept if n in CLOBBERED]
        words = f"SP, x19 to x29{''.join(f', {n}' for n in also)} and the system registers"
        require("keeps", f"{self.name} keeps {words}", same)
        changed = {*self.contract.changes, *TOUCHED}
        ghosts = And(*(_no_worse(n, state, entry) for n in GHOSTS if n not in changed))
        require(
            "keeps",
            f"{self.name} leaves no unsynchronized context change except those in its contract",
            ghosts,
        )
        self._require_memory(code, state)
        self._require_maintenance(code, entry, state)
        if self.contract.ensures is not None:
            holds = self.contract.ensures(calls.values(entry), calls.values(state))
            require("ensures", f"{self.name}: {self.contract.sentence}", holds)
        if self.contract.answers_stub:
            answer = If(self.context.stub_below(entry), const(1, 8), const(0, 8))
            require("ensures", f"{self.name}: {self.contract.sentence}", state.registers["x0"][7:0] == answer)
        self._require_calls(entry, state, require)
        for what, promise in (("data", self.contract.cleans), ("instruction", self.contract.fetches)):
            self._require_lines(what, promise(entry.registers) if promise else None, entry, step, explorer)

    def _require_lines(
        self, what: str, range_: tuple[Term, Term] | None, entry: State, step: Step, explorer: Explorer
    ) -> None:
        """Require that no line's state is worse than the contract says, in its range and elsewhere."""
        state, path = step.state, step.state.trace
        found, before = (state.lines, entry.lines) if what == "data" else (state.fetch, entry.fetch)
        got, was = found.read(ANYWHERE), before.read(ANYWHERE)
        chosen: Facts = ()
        if what == "instruction" and self.context.sets("HAS_CACHE_DIC") and _synchronized(state):
            seen = var("fetch state where HAS_CACHE_DIC is set", 2)
            coherent = If(state.lines.read(ANYWHERE) == cache.CLEAN, cache.CLEAN, got)
            chosen, got = ((MEANING, seen == coherent),), seen
        frame = within(ANYWHERE, entry.sp - FRAME_BYTES, FRAME_BYTES)
        word: Facts = (
            *state.facts,
            *chosen,
            ("the word is aligned", aligned(ANYWHERE, 8)),
            ("the word is not of the callee's frame", Not(frame)),
        )
        name = f"contract-{self.name}-{what}-lines"
        sentence = f"{self.name} leaves the {what} cache as its contract says"

        def require(where: str, facts: Facts, goal: Formula) -> None:
            self.obligations.append(Obligation(name, f"{sentence}, {where}", facts, goal, path[-1], path))

        require("at any word", word, Or(got == was, got == cache.CLEAN))
        if range_ is None:
            return
        start, end = range_
        inside: Facts = (*word, ("the word is in the range", And(ule(start, ANYWHERE), ult(ANYWHERE, end))))
        helps = was != cache.LOST
        if what == "instruction":
            helps = And(helps, entry.lines.read(ANYWHERE) == cache.CLEAN)
        self.obligations.append(lemma_on_sums())
        goal = Implies(helps, got == cache.CLEAN)
        where = "at any word of the range"
        required = Obligation(name, f"{sentence}, {where}", inside, goal, path[-1], path)
        self.obligations += prove_in_distances(
            required, self._lines(explorer, what), self.decide, lambda lines: lines.bounds
        )

    def _require_memory(self, code: Code, state: State) -> None:
        for access in state.accesses:
            item, _ = objects(access.before).find(access.address)
            allowed = in_object(access)
            if access.kind == "store" and item.name not in (STACK_FRAME, SHADOW_CALL_STACK):
                allowed = FALSE
            sentence = f"the {access.kind} at {code.where(access.at)} stays in {item.name}"
            facts = access.before.facts[: access.known]
            name = f"contract-{self.name}-access"
            self.obligations.append(Obligation(name, sentence, facts, allowed, access.at, state.trace))

    def _require_maintenance(self, code: Code, entry: State, state: State) -> None:
        """Require that maintenance by address stays in the pages of the range: elsewhere it could fault."""
        asks = (self.contract.cleans, self.contract.fetches)
        ranges = [ask(entry.registers) for ask in asks if ask is not None]
        for event in state.events:
            if event.name not in _BY_ADDRESS:
                continue
            address = event.operands[0]
            goals = [
                Or(And(ule(start, address), ult(address, end)), within(address, start & -PAGE, PAGE))
                for start, end in ranges
            ]
            sentence = f"the cache maintenance at {code.where(event.at)} stays in the pages of the range"
            facts = event.before.facts[: event.known]
            name = f"contract-{self.name}-maintained"
            self.obligations.append(
                Obligation(name, sentence, facts, Or(*goals) if goals else FALSE, event.at, state.trace)
            )

    def _require_effects(self, calls: Calls, entry: State, states: Iterable[State]) -> None:
        """Require that each system instruction is one that the contract names."""
        events = [event for state in states for event in state.events]
        self.obligations += effect_obligations(
            f"contract-{self.name}-effect",
            self.code.where,
            events,
            self.contract.effects,
            calls.values(entry),
            lambda event: calls.values(event.before),
        )

    def _require_calls(self, entry: State, state: State, require: Require) -> None:
        asked = [event for event in state.events if event.name == "CallHyperVisor"]
        if self.contract.asks is None:
            require("asks", f"{self.name} makes no HVC", TRUE if not asked else FALSE)
            return
        goal: Formula = FALSE
        if len(asked) == 1:
            before = asked[0].before.registers
            x0, x1 = self.contract.asks(entry.registers)
            goal = And(before["x0"] == x0, before["x1"] == x1)
        require("asks", f"{self.name}: {self.contract.sentence}", goal)
