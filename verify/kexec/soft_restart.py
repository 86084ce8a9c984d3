"""Proof obligations of the restart code and of the hyp stub (T6, from the call to the entry)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from kexec_verify.arm64.execute import Exit, Step
from kexec_verify.arm64.lift import Code
from kexec_verify.arm64.state import SCTLR_C, SCTLR_M, SYSTEM, Event, State, synced
from kexec_verify.arm64.system import left_by_hvc
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.context import RESTART, KexecContext
from kexec_verify.kexec.effects import effect_obligations
from kexec_verify.kexec.patch_sites import unknown
from kexec_verify.logic import FALSE, TRUE, And, Formula, Term, const
from kexec_verify.obligation import Facts, Obligation
from kexec_verify.specs import boot_protocol, effects
from kexec_verify.specs.cpu_soft_restart import asks_stub, enters
from kexec_verify.specs.hyp_stub import HVC_SET_VECTORS, HVC_SOFT_RESTART, LOWER_EL_SYNC, soft_restart
from kexec_verify.symbolic.explore import Decide, Explorer
from kexec_verify.symbolic.segments import Segment

VECTORS = "__hyp_stub_vectors"
COPIED_VECTORS = "trans_pgd_stub_vectors"
VECTORS_BYTES = 2048  # a vector table (Arm ARM, D1.3.1)
_STUB_BYTES = 1 << 14  # the table and the handlers that it branches to

LEAVES = ("br", "ret", "call")
"""How an instruction may go to an address in a register; which one it is changes nothing for its target."""

type Require = Callable[..., None]
type Terms = dict[str, Term]


@dataclass
class SoftRestart:
    """The proof of cpu_soft_restart: MMU off, then the entry, here or through EL2."""

    context: KexecContext
    decide: Decide
    obligations: list[Obligation] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.code = self._code()
        self.entry = self.context.bare_entry(self.code.name)

    def _code(self) -> Code:
        for name in RESTART:
            if self.context.kernel.symbol(name) is not None:
                found = self.context.code(name)
                return Code(name, found.address, found.data, unknown=found.unknown)
        raise UnsupportedError(f"kernel without {' or '.join(RESTART)}")

    def assumptions(self) -> Facts:
        """Return facts about the state in which it is called."""
        registers = self.entry.registers
        on = SCTLR_M | SCTLR_C
        return (
            ("mmu-on", (registers["sctlr_el1"] & on) == on),
            ("little-endian", (registers["sctlr_el1"] & boot_protocol.SCTLR_EE) == 0),
        )

    def is_off(self, sctlr: Term) -> Formula:
        """``sctlr`` is SCTLR_EL1 with the MMU off, as a kernel with this restart code has it."""
        if self.code.name == RESTART[0]:
            return boot_protocol.sctlr_is_off(sctlr)
        return boot_protocol.sctlr_is_cleared(sctlr, self.entry.registers["sctlr_el1"])

    def prove(self) -> None:
        """Run every path and add its obligations.

        :raises UnsupportedError: for code that the proof does not cover.
        """
        explorer = Explorer(self.code, frozenset(), self.decide, (), "restart-")
        start = self.entry.assume(*self.assumptions())
        ends = explorer.run(start, self.code.address)
        self.segments = [Segment(self.code.address, start, tuple(ends))]
        for step in ends:
            self.require_end(step)
        self.obligations += explorer.obligations
        self.obligations += position_independence("restart", self.code)
        self.require_effects([step.state for step in ends])
        self._require_idmap()

    def require_effects(self, states: list[State]) -> None:
        """Require that each system instruction is one that the restart code may execute."""
        events = [event for state in states for event in state.events]
        rules = effects.cpu_soft_restart(self.is_off)
        entry = self.entry.registers
        self.obligations += effect_obligations("restart-effect", self.code.where, events, rules, entry)

    def _require_idmap(self) -> None:
        """Require that the idmap maps all of the code, which runs at physical addresses with the MMU on."""
        known = self.context.globals
        first, end = "__idmap_text_start", "__idmap_text_end"
        if first not in known or end not in known:
            raise UnsupportedError(f"kernel whose {first} and {end} were not found")
        inside = known[first] <= self.code.address and self.code.end <= known[end]
        sentence = f"{self.code.name} lies in the text that the idmap maps"
        goal = TRUE if inside else FALSE
        self.obligations.append(Obligation("restart-in-idmap", sentence, (), goal, self.code.address))

    def require_end(self, step: Step) -> None:
        state, path = step.state, step.state.trace
        at, entry = path[-1], self.entry.registers
        where = self.code.where(at)

        def require(name: str, sentence: str, goal: Formula, facts: Facts = state.facts) -> None:
            self.obligations.append(Obligation(f"restart-{name}", sentence, facts, goal, at, path))

        untouched = FALSE if state.accesses else TRUE
        require("memory", f"nothing is loaded or stored before {where}", untouched)
        calls = [event for event in state.events if event.name == "CallHyperVisor"]
        if not calls:
            leaves = isinstance(step.then, Exit) and step.then.kind in LEAVES
            target = step.then.target if isinstance(step.then, Exit) else const(0)
            enters_ = enters(entry, state.registers, target) if leaves else FALSE
            require(
                "el1",
                f"at {where} the entry is reached with the arguments in x0 to x2, x3 as it was",
                enters_,
            )
            require("el1", f"{where} is reached without an HVC only for el2_switch = 0", entry["x0"] == 0)
            self._require_machine(require, where, state.registers, state.ghosts, state.facts)
            return
        # What follows an HVC runs only if EL2 refuses, as protected KVM does; the stub never does.
        event = calls[0]
        before, facts = event.before, event.before.facts[: event.known]
        shown = self.code.where(event.at)
        asked = And(entry["x0"] != 0, asks_stub(entry, before.registers))
        require(
            "hvc",
            f"the HVC at {shown} asks for HVC_SOFT_RESTART of the entry and its arguments",
            asked,
            facts,
        )
        self._require_machine(require, shown, before.registers, before.ghosts, facts)
        self._require_refused(require, step, event)

    def _require_refused(self, require: Require, step: Step, event: Event) -> None:
        """Require that the entry is reached at EL1 where EL2 refuses the call and keeps its arguments."""
        entry, left = self.entry.registers, left_by_hvc(len(event.before.events) + 1)
        kept = And(*(left[f"x{i}"] == event.before.registers[f"x{i}"] for i in range(1, 5)))
        leaves = isinstance(step.then, Exit) and step.then.kind in LEAVES
        target = step.then.target if isinstance(step.then, Exit) else const(0)
        goal = enters(entry, step.state.registers, target) if leaves else FALSE
        where = self.code.where(step.state.trace[-1])
        sentence = f"at {where}, after a refused HVC, the entry is reached with the arguments in x0 to x2"
        facts: Facts = (*step.state.facts, ("refused-call-keeps", kept))
        require("refused", sentence, goal, facts)
        self._require_machine(require, where, step.state.registers, step.state.ghosts, facts)

    def _require_machine(
        self, require: Require, where: str, registers: Terms, ghosts: Terms, facts: Facts
    ) -> None:
        off = self.is_off(registers["sctlr_el1"])
        require("mmu-off", f"at {where} SCTLR_EL1 is the kernel's value with the MMU off", off, facts)
        require("synced", f"at {where} no context change awaits an ISB", synced(ghosts), facts)
        entry = self.entry.registers
        same = And(*(registers[n] == entry[n] for n in ("sp", *SYSTEM) if n not in ("sctlr_el1", "daif")))
        require("keeps", f"at {where} SP and the other system registers are as they were", same, facts)
        kept = registers["daif"] == self.entry.registers["daif"]
        require("masked", f"at {where} interrupts are masked as they were", kept, facts)


@dataclass
class El2Code:
    """The proof of code at EL2 that answers one HVC from EL1.

    A subclass says which code it is, in which state it is entered, and what must hold at a path's end.

    :cvar uses_stack: whether it may access memory at EL2's SP.
    """

    uses_stack: ClassVar[bool] = False

    context: KexecContext
    obligations: list[Obligation] = field(default_factory=list, kw_only=True)
    segments: list[Segment] = field(default_factory=list, kw_only=True)
    covered: set[int] = field(default_factory=set, kw_only=True)

    def __post_init__(self) -> None:
        self.code = self.code_of()

    @property
    def prefix(self) -> str:
        """Return the prefix of its obligations' names."""
        raise NotImplementedError

    @property
    def start(self) -> int:
        """Return the address of its first instruction."""
        raise NotImplementedError

    def code_of(self) -> Code:
        """Return its bytes.

        :raises UnsupportedError: the kernel has none.
        """
        raise NotImplementedError

    def entered(self) -> State:
        """Return the state in which its first instruction is executed."""
        raise NotImplementedError

    def require(self, entry: State, step: Step) -> None:
        """Require what must hold at the end of one path from ``entry``."""
        raise NotImplementedError

    def prove(self) -> None:
        """Run every path and add its obligations.

        :raises UnsupportedError: for code that the proof does not cover.
        """
        entry = self.entered()
        explorer = Explorer(self.code, frozenset(), unroll=True)
        ends = explorer.run(entry, self.start)
        self.covered = explorer.covered
        self.segments = [Segment(self.start, entry, tuple(ends))]
        for step in ends:
            self.require(entry, step)

    def symbol_address(self, name: str) -> int:
        """Return the address of a symbol.

        :raises UnsupportedError: the kernel does not have it.
        """
        symbol = self.context.kernel.symbol(name)
        if symbol is None:
            raise UnsupportedError(f"kernel without {name}")
        return symbol.address

    def add(self, name: str, sentence: str, step: Step, goal: Formula) -> None:
        """Add an obligation about the end of a path."""
        state, path = step.state, step.state.trace
        name = f"{self.prefix}-{name}"
        self.obligations.append(Obligation(name, sentence, state.facts, goal, path[-1], path))

    def add_effects(self, states: list[State], rules: effects.Rules, entry: Terms) -> None:
        """Require that each system instruction is one that a rule allows."""
        events = [event for state in states for event in state.events]
        self.obligations += effect_obligations(f"{self.prefix}-effect", self.code.where, events, rules, entry)

    def require_kept(self, step: Step, known: Terms, names: Iterable[str]) -> None:
        """Require that SP and system registers are as they were."""
        registers = step.state.registers
        where = self.code.where(step.state.trace[-1])
        same = And(*(registers[name] == known[name] for name in ("sp", *names)))
        self.add("keeps", f"at {where} SP and the other system registers are as they were", step, same)

    def require_no_access(self, step: Step) -> None:
        """Require that the path accesses no memory."""
        untouched = FALSE if step.state.accesses else TRUE
        where = self.code.where(step.state.trace[-1])
        self.add("memory", f"nothing is loaded or stored before {where}", step, untouched)


@dataclass
class HypStub(El2Code):
    """The proof of how one table of EL2 vectors handles one HVC from EL1.

    :param copied: only the table itself is in memory when it runs.
    :param asked: the number in x0: HVC_SOFT_RESTART or HVC_SET_VECTORS.
    """

    symbol: str
    copied: bool
    asked: int = HVC_SOFT_RESTART

    @property
    def prefix(self) -> str:
        """Return the prefix of its obligations' names."""
        return "stub-copy" if self.copied else "stub"

    @property
    def start(self) -> int:
        """Return the address of the vector for an HVC."""
        return self.code.address + LOWER_EL_SYNC

    def code_of(self) -> Code:
        """Return the table and, unless it is copied, the handlers that it branches to."""
        kernel, address = self.context.kernel, self.symbol_address(self.symbol)
        size = VECTORS_BYTES if self.copied else _STUB_BYTES
        while not kernel.mapped(address, size):
            size -= 4
        # A branch out of what is in memory ends a path, and is no entry of x1.
        data, patched = kernel.read(address, size), unknown(kernel, address, address + size)
        return Code(self.symbol, address, data, calls=True, el=2, unknown=patched)

    def prove(self) -> None:
        """Run every path from the vector for an HVC and add its obligations.

        :raises UnsupportedError: for code that the proof does not cover.
        """
        super().prove()
        if self.copied:
            ran = Code(self.symbol, self.code.address, self.code.data)
            self.obligations += position_independence(self.prefix, ran, sorted(self.covered))

    def entered(self) -> State:
        """Return the state in which EL2 takes the HVC."""
        return self.context.bare_entry(self.symbol).with_registers(x0=const(self.asked))

    def require(self, entry: State, step: Step) -> None:
        """Require what must hold at the end of one path from ``entry``."""
        known, sets = entry.registers, self.asked == HVC_SET_VECTORS
        if sets:
            self._require_set_vectors(entry, step)
        else:
            self._require_soft_restart(entry, step)
        self.require_kept(step, known, [name for name in SYSTEM if name != "vbar_el2" or not sets])
        self.require_effects([step.state], known)
        self.require_no_access(step)

    def require_effects(self, states: list[State], entry: Terms) -> None:
        """Require that each system instruction is one that the stub may execute for this call."""
        sets = self.asked == HVC_SET_VECTORS
        rules = effects.HYP_STUB_SET_VECTORS if sets else effects.HYP_STUB_SOFT_RESTART
        self.add_effects(states, rules, entry)

    def _require_soft_restart(self, entry: State, step: Step) -> None:
        leaves = isinstance(step.then, Exit) and step.then.kind in LEAVES
        target = step.then.target if isinstance(step.then, Exit) else const(0)
        goal = soft_restart(entry.registers, step.state.registers, target) if leaves else FALSE
        where = self.code.where(step.state.trace[-1])
        sentence = f"at {where} HVC_SOFT_RESTART enters x1 with x2, x3, x4 as arguments, for good"
        self.add("soft-restart", sentence, step, goal)

    def _require_set_vectors(self, entry: State, step: Step) -> None:
        """Require what __hyp_set_vectors relies on."""
        returns = isinstance(step.then, Exit) and step.then.kind == "eret"
        taken = step.state.registers["vbar_el2"] == entry.registers["x1"]
        where = self.code.where(step.state.trace[-1])
        sentence = f"at {where} HVC_SET_VECTORS has set VBAR_EL2 to x1 and returns"
        self.add("set-vectors", sentence, step, taken if returns else FALSE)


def position_independence(prefix: str, code: Code, addresses: list[int] | None = None) -> list[Obligation]:
    """Require that each instruction behaves identically at every address, except branches within the code.

    Decoded at two addresses an instruction must give the same p-code; a branch must move with it.

    :raises UnsupportedError: for an instruction without a meaning.
    """
    found = []
    for address in addresses if addresses is not None else code.addresses:
        moved = Code(code.name, code.address + (1 << 20), code.data)
        here, there = code.at(address), moved.at(address + (1 << 20))
        ok = len(here.operations) == len(there.operations)
        for left, right in zip(here.operations, there.operations, strict=False):
            for a, b in zip(left.inputs, right.inputs, strict=True):
                if a.space.name == "const" and left.opcode.name in ("LOAD", "STORE") and a.size == 8:
                    continue  # the number of the address space, an address of the decoder's own
                if a.offset == b.offset and a.space.name == b.space.name:
                    continue
                branches = left.opcode.name in ("BRANCH", "CBRANCH") and a.space.name == "ram"
                ok = ok and branches and b.offset - a.offset == 1 << 20 and a.offset in code
        goal = TRUE if ok else FALSE
        sentence = f"{code.where(address)} behaves identically at every address of the code"
        found.append(Obligation(f"{prefix}-position-independent", sentence, (), goal, address))
    return found
