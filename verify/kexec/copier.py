"""Prove memcpy's contract from its bytes, for the copy that kexec makes to the control page."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from kexec_verify.arm64.execute import Exit, Step
from kexec_verify.arm64.state import GENERAL, GHOSTS, SYSTEM, State
from kexec_verify.kexec.calls import (
    CONTROL_PAGE,
    ENDS,
    TOUCHED,
    Calls,
    may_change,
    objects,
    required_access,
    stack_obligations,
    without_doubles,
)
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.effects import effect_obligations
from kexec_verify.logic import FALSE, TRUE, And, Formula, Or, const, ule, var
from kexec_verify.obligation import Obligation
from kexec_verify.symbolic.explore import Decide, Explorer
from kexec_verify.symbolic.objects import STACK_FRAME, Object, Objects


@dataclass
class Copier:
    """The proof that ``name`` copies ``length`` bytes of the image from ``start`` to a page.

    Its loops have constant bounds here and are unrolled.

    :param address: its address, if known.
    """

    context: KexecContext
    name: str
    start: int
    length: int
    decide: Decide
    address: int | None = None
    obligations: list[Obligation] = field(default_factory=list)
    covered: set[int] = field(default_factory=set)

    def prove(self) -> None:
        """Run every path and add its obligations.

        :raises UnsupportedError: for code that the proof does not cover.
        """
        code = self.context.code(self.name, self.address)
        entry = self._entry()
        calls = Calls(self.context, code, decide=self.decide)
        explorer = Explorer(
            code,
            frozenset(),
            self.decide,
            prefix=f"contract-{self.name}-",
            leave=calls.leave,
            unroll=True,
            prune=True,
        )
        ends = explorer.run(entry, code.address)
        states = [step.state for step in ends]
        name = f"contract-{self.name}"
        self.obligations += stack_obligations(f"{name}-sp", code, entry, states)
        events = [event for state in states for event in state.events]
        self.obligations += effect_obligations(f"{name}-effect", code.where, events, (), entry.registers)
        for step in ends:
            if isinstance(step.then, Exit) and step.then.kind == ENDS:
                continue
            self._require_end(entry, step, code.where(step.state.trace[-1]))
            for access in step.state.accesses:
                self.obligations += required_access(f"contract-{self.name}", code.where, access, _may_store)
        self.covered = explorer.covered
        self.obligations = without_doubles([*self.obligations, *explorer.obligations, *calls.obligations])

    def _entry(self) -> State:
        page = self.context.page_size
        bits = page.bit_length() - 1
        dest = var("page", 64 - bits).concat(const(0, bits))
        entry = self.context.bare_entry(self.name, Object(CONTROL_PAGE, dest, 0, page))
        memory = objects(entry)
        data = self.context.kernel.read(self.start, self.length)
        known = {self.start + i: byte for i, byte in enumerate(data)}
        image = next(item for item in memory.objects if item.base is None)
        others = tuple(item for item in memory.objects if item.base is not None)
        image = replace(image, known={**image.known, **known})
        apart = Or(ule(dest + page, const(self.start)), ule(const(self.start + self.length), dest))
        fits = ule(dest, const(-(1 << 20)))
        entry = replace(entry, memory=Objects((image, *others)))
        entry = entry.with_registers(x0=dest, x1=const(self.start), x2=const(self.length))
        return entry.assume(("control-page-linear", And(apart, fits)))

    def _require_end(self, entry: State, step: Step, where: str) -> None:
        state, path = step.state, step.state.trace

        def require(kind: str, sentence: str, goal: Formula) -> None:
            name = f"contract-{self.name}-{kind}"
            self.obligations.append(Obligation(name, sentence, state.facts, goal, path[-1], path))

        returns = isinstance(step.then, Exit) and step.then.kind == "ret"
        target = step.then.target if isinstance(step.then, Exit) else const(0)
        require("returns", f"at {where} it returns", target == entry.registers["x30"] if returns else FALSE)
        free = may_change(self.context)
        kept = [n for n in (*GENERAL, "sp") if n not in free] + list(SYSTEM)
        same = And(*(state.registers[n] == entry.registers[n] for n in kept))
        ghosts = And(*(state.ghosts[n] == entry.ghosts[n] for n in GHOSTS if n not in TOUCHED))
        require(
            "keeps", f"at {where} SP, x19 to x29 and the system registers are as they were", And(same, ghosts)
        )
        written = objects(state).stored_in(CONTROL_PAGE)
        data = self.context.kernel.read(self.start, self.length)
        exact = sorted(written) == list(range(self.length))
        copied = And(*(written[i] == byte for i, byte in enumerate(data))) if exact else FALSE
        require("copies", f"at {where} the page holds the {self.length} bytes from {self.start:#x}", copied)


def _may_store(name: str) -> Formula:
    return TRUE if name in (CONTROL_PAGE, STACK_FRAME) else FALSE
