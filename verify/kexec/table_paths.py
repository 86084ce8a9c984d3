"""The paths of a function that builds page tables: calls, and what the engine has no model of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from kexec_verify.arm64 import pointer_authentication
from kexec_verify.arm64.cache import Lines
from kexec_verify.arm64.execute import Exit, Step
from kexec_verify.arm64.lift import SIZE, Code
from kexec_verify.arm64.state import Event, State, unknown_ghosts, unknown_registers, width
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.calls import ARGUMENTS, may_change
from kexec_verify.kexec.context import FRAME_BYTES, SHADOW_CALL_BYTES, KexecContext
from kexec_verify.kexec.locate import Function, calls_out
from kexec_verify.logic import Term, constant, offset_from, same, var
from kexec_verify.symbolic.cut_paths import ENTRY, CutPaths
from kexec_verify.symbolic.heap import Heap, heap_of
from kexec_verify.symbolic.objects import STACK_FRAME, Object

TASK = "the task"
_RETURNS = "the return addresses"  # a shadow call stack, of which nothing is known at a cutpoint
CALL = "call "
"""What the names of calls' events begin with; a call of what a register holds is ``call *``."""
_TASK_BYTES = 16384
# Exclusive and atomic accesses (Arm ARM, C4.1.94): mask and value of LDXR, STXR, and LDSET and its like.
_LDXR, _STXR, _LDOP = (0x3FFF_FC00, 0x085F_7C00), (0x3FE0_FC00, 0x0800_7C00), (0x3F20_0C00, 0x3820_0000)

_XPACLRI = 0xD503_20FF
_ZERO = 31

type Called = Callable[[State, Sequence[str], int], State]
"""Returns what a call leaves, of the state after an unknown callee, its names and the call's address."""


@dataclass
class TablePaths:
    """The paths of one function.

    :param joins: see CutPaths; ``uncut`` too.
    :param called: what is known besides of each call, by the names of the callee, ``*`` if its address is in
        a register; or an error for a call that must not be.
    """

    context: KexecContext
    code: Code
    joins: int
    called: Called = lambda state, names, at: state
    uncut: frozenset[int] = frozenset()
    _count: int = 0
    _escaped: int | None = None

    def run(self) -> CutPaths:
        """Return every path.

        :raises UnsupportedError: for what the engine does not cover.
        :raises LimitError: for too many paths.
        """
        while True:
            escaped, self._count = self._escaped, 0
            paths = CutPaths(
                self.code,
                self.entry(),
                self._leave,
                self._without_model,
                modelled,
                self.joins,
                self.uncut,
            )
            paths.run()
            if escaped == self._escaped:
                return paths

    def entry(self) -> State:
        """Return the state on entry: nothing is known of it."""
        registers = unknown_registers(ENTRY)
        frame = Object(STACK_FRAME, registers["sp"], -FRAME_BYTES, 0)
        task = Object(TASK, registers["sp_el0"], 0, _TASK_BYTES)
        objects = [self.context.image, frame, task]
        if self.context.shadow_calls:
            objects.append(Object(_RETURNS, registers["x18"], 0, SHADOW_CALL_BYTES))
        memory = Heap(tuple(objects), ENTRY)
        return State(registers, unknown_ghosts(ENTRY), memory, Lines("L"), fetch=Lines("F"))

    def _fresh(self, what: str, bits: int = 64) -> Term:
        self._count += 1
        return var(f"{what}#{self._count}", bits)

    def _leave(self, step: Step) -> list[Step] | None:
        """Where ``step`` goes on; None where a path ends."""
        assert isinstance(step.then, Exit)
        state, at, kind = step.state, step.state.trace[-1], step.then.kind
        target = constant(step.then.target)
        if kind == "ret":
            return self._return(state, at, target)
        if kind == "brk":
            return [Step(state, at + SIZE)] if at in self.code.warnings else None
        if kind == "call" and target is not None and self.code.enters(target):
            return [Step(state, target)]
        leaves = self._starts(target) if target is not None else self._is_held(state, step.then.target)
        if kind == "call" or (kind == "br" and leaves):
            after = self._call(state, at, target, step.then.target)
            if target in self.code.final:
                return None
            further = (
                at + SIZE
                if kind == "call" and at + SIZE in self.code
                else Exit("ret", state.registers["x30"])
            )
            return [Step(after, further)]
        raise UnsupportedError(f"way out of {self.code.name} ({kind})", at)

    def _return(self, state: State, at: int, target: int | None) -> list[Step] | None:
        """Where a return goes on: behind the call, if the function that returns was run in place of one."""
        if target is not None and target in self.code:
            return [Step(state, target)]
        if any(at in piece for piece in self.code.continuations if piece.address in self._called_in_place):
            raise UnsupportedError("return to an address that is not known", at)
        return None

    @cached_property
    def _called_in_place(self) -> set[int]:
        """The first addresses of the functions that are run in place of a call."""
        functions = (Function(p.name, p.address, p.data, "") for p in self.code.pieces)
        return {target for f in functions for target in calls_out(f) if self.code.enters(target)}

    @staticmethod
    def _is_held(state: State, target: Term) -> bool:
        """``target`` was loaded from the heap, as a function's address is, but no place of a switch: the code
        computes that, or loads it from the image.
        """
        memory = heap_of(state.memory)
        return any(
            access.kind == "load" and memory.is_heap(access.address) and same(access.value, target)
            for access in state.accesses
        )

    def _starts(self, target: int) -> bool:
        """A function starts at ``target``, and no part of one that is elsewhere."""
        names = self.context.kernel.symbols_at(target)
        return bool(names) and not any(".cold" in name for name in names)

    def _call(self, state: State, at: int, target: int | None, term: Term) -> State:
        names = [] if target is None else self.context.kernel.symbols_at(target)
        name = "*" if target is None else names[0] if names else hex(target)
        operands = (term, *(state.registers[register] for register in ARGUMENTS))
        event = Event(f"{CALL}{name}", operands, at, len(state.facts), state)
        memory = heap_of(state.memory)
        base = next(item.base for item in memory.objects if item.name == STACK_FRAME)
        for register in ARGUMENTS:
            offset = offset_from(state.registers[register], base)
            if offset is not None and (self._escaped is None or offset < self._escaped):
                self._escaped = offset
        self._count += 1
        memory = memory.forgetting(f"{name}#{self._count}", self._escaped)
        registers = {r: self._fresh(f"{r} after {name}", width(r)) for r in may_change(self.context)}
        after = replace(state.with_registers(**registers), memory=memory, events=(*state.events, event))
        return self.called(after, names or [name], at)

    def _without_model(self, at: int, state: State) -> State:
        """The state after an instruction of which :func:`modelled` says that it has a meaning here.

        An exclusive or atomic access must be to the task's flags. Signed return addresses are taken as they
        are: nothing is concluded of where a function returns to.
        """
        word = self.code.word(at)
        if word in pointer_authentication.MEANING:
            return state
        if word == _XPACLRI:
            return state.with_registers(x30=self._fresh("x30"))
        base, result, status = word >> 5 & 31, word & 31, word >> 16 & 31
        memory = heap_of(state.memory)
        item, offset = memory.find(state.registers["sp" if base == 31 else f"x{base}"])
        place = constant(offset)
        if item.name != TASK or place is None:
            raise UnsupportedError(f"exclusive or atomic access to {item.name}", at)
        loads, stores = _is(word, _LDXR), _is(word, _STXR)
        if not loads:
            memory = heap_of(memory.storing(TASK, place, self._fresh("flags")))
        changed = {}
        if not stores and result != _ZERO:
            changed[f"x{result}"] = self._fresh("flags")
        if stores and status != _ZERO:
            changed[f"x{status}"] = self._fresh("status", 32).zero_extend(32)
        return replace(state.with_registers(**changed), memory=memory)


def modelled(word: int) -> bool:
    """Return whether an instruction has a meaning here that the engine lacks, by its encoding."""
    known = word in pointer_authentication.MEANING or word == _XPACLRI
    return known or any(_is(word, kind) for kind in (_LDXR, _STXR, _LDOP))


def _is(word: int, kind: tuple[int, int]) -> bool:
    mask, value = kind
    return word & mask == value


def calls(paths: CutPaths) -> list[Event]:
    """Return each call on the paths, with the state before it, once for all paths that go on from it."""
    found: dict[tuple[object, ...], Event] = {}
    for steps in paths.ends.values():
        for step in steps:
            for event in step.state.events:
                if event.name.startswith(CALL):
                    facts = tuple(fact.hash() for _, fact in event.before.facts)
                    key = (event.at, facts, *(operand.hash() for operand in event.operands))
                    found.setdefault(key, event)
    return list(found.values())
