"""Execute p-code on symbolic states, one instruction at a time.

angr decodes instructions and defines each p-code operation. Loads, stores, branches and system instructions
are defined here, so no state is pruned or dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from kexec_verify.arm64 import memory_copy, mops, pointer_authentication, system
from kexec_verify.arm64.legality import lowest_el, unprivileged
from kexec_verify.arm64.lift import SIZE, Instruction, registers, system_register
from kexec_verify.arm64.signed_loads import corrected, loads_signed_to_w
from kexec_verify.arm64.state import NAMES, SYSTEM, Access, Event, State
from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import Formula, Not, Term, const, normal
from kexec_verify.memory import WORD_BYTES
from kexec_verify.parts_of_angr import behavior as pcode

_BEHAVIOR = pcode.BehaviorFactory()


@dataclass(frozen=True)
class Exit:
    """How control leaves a function, and where to.

    The kind is ``br``, ``ret``, ``call``, ``eret``, ``brk`` or ``undefined``.
    The target of ``brk`` is its number, that of ``eret`` and of an undefined instruction is nothing.
    """

    kind: str
    target: Term


@dataclass(frozen=True)
class Step:
    """The result of one instruction on one path.

    :param then: address of the next instruction, or how control leaves.
    """

    state: State
    then: int | Exit


def _registers_by_offset() -> dict[int, tuple[str, int]]:
    return {int(registers()[name].offset): (name, int(registers()[name].size)) for name in NAMES}


_BY_OFFSET = _registers_by_offset()
_ZERO_REGISTER = int(registers()["xzr"].offset)
_PC = int(registers()["pc"].offset)
# Writes of system registers without a name: SLEIGH gives the operation a result that nothing reads.
_WRITES = frozenset({"UnkSytemRegWrite"})
UNPRIVILEGED = "unprivileged access"
UNDEFINED = "undefined instruction"


class _Run:
    """One path through the p-code of one instruction."""

    def __init__(
        self, instruction: Instruction, state: State, temporaries: dict[int, Term], sp: Term | None = None
    ):
        self.instruction = instruction
        self.state = state
        self.temporaries = temporaries
        self.sp = state.sp if sp is None else sp

    @property
    def at(self) -> int:
        return self.instruction.address

    def _register(self, varnode: Any) -> tuple[str, int, int]:
        """Return the register that holds ``varnode``, its bytes, and the varnode's first byte in it."""
        for base in (varnode.offset, varnode.offset & ~7):
            if base in _BY_OFFSET:
                name, size = _BY_OFFSET[base]
                if varnode.offset + varnode.size <= base + size:
                    return name, size, varnode.offset - base
        name = varnode.getRegisterName() or f"register {varnode.offset:#x}"
        raise UnsupportedError(f"register {name} ({self.instruction.text})", self.at)

    def get(self, varnode: Any) -> Term:
        size = self._width(varnode)
        match varnode.space.name:
            case "const":
                return const(varnode.offset, size)
            case "unique":
                value = self.temporaries.get(varnode.offset)
                if value is None or value.length < size:
                    raise UnsupportedError(f"p-code of {self.instruction.text}", self.at)
                return value if value.length == size else value[size - 1 : 0]
            case "register":
                if varnode.offset == _ZERO_REGISTER:
                    return const(0, size)
                if varnode.offset == _PC:
                    return self.temporaries[-_PC - 1]
                name, _, first = self._register(varnode)
                value = self.state.registers[name]
                return value if value.length == size else value[first * 8 + size - 1 : first * 8]
        raise UnsupportedError(f"p-code space {varnode.space.name}", self.at)

    def _width(self, varnode: Any) -> int:
        """Return the width of ``varnode`` in bits; claripy folds shifts of constants over 64 bits wrongly."""
        if varnode.size > WORD_BYTES:
            raise UnsupportedError(f"operand of {varnode.size} bytes ({self.instruction.text})", self.at)
        return int(varnode.size) * 8

    def set(self, varnode: Any, value: Term) -> None:
        size = self._width(varnode)
        if value.length < size:
            value = value.zero_extend(size - value.length)
        elif value.length > size:
            value = value[size - 1 : 0]
        value = normal(value)
        if varnode.space.name == "unique":
            self.temporaries[varnode.offset] = value
            return
        if varnode.space.name != "register":
            raise UnsupportedError(f"p-code space {varnode.space.name}", self.at)
        if varnode.offset == _ZERO_REGISTER:
            return
        if varnode.offset == _PC:
            self.temporaries[-_PC - 1] = value
            return
        unmodelled = system_register(varnode)
        if unmodelled is not None and unmodelled not in SYSTEM:
            self.record(f"msr {unmodelled}", (value,))
            return
        name, whole, _ = self._register(varnode)
        if whole != varnode.size:
            raise UnsupportedError(f"write to part of {name} ({self.instruction.text})", self.at)
        if name in SYSTEM:
            self.record(f"msr {name}", (value,))
            self.state = system.write_register(self.state, name, value)
        else:
            self.state = self.state.with_registers(**{name: value})

    def record(self, name: str, operands: tuple[Term, ...]) -> None:
        event = Event(name, operands, self.at, len(self.state.facts), self.state)
        self.state = replace(self.state, events=(*self.state.events, event))

    def load(self, operation: Any) -> None:
        address, out = normal(self.get(operation.inputs[1])), operation.output
        value = self._asked(lambda: self.state.memory.load(address, out.size))
        self._access("load", address, value)
        self.set(out, value)

    def store(self, operation: Any) -> None:
        address, value = normal(self.get(operation.inputs[1])), self.get(operation.inputs[2])
        memory = self._asked(lambda: self.state.memory.store(address, value))
        self._access("store", address, value)
        self.state = replace(self.state, memory=memory)
        self.state = system.store(self.state, address, const(value.length // 8))

    def _asked[T](self, ask: Callable[[], T]) -> T:
        """Return what memory answers; add the instruction's address to an error that it raises."""
        try:
            return ask()
        except UnsupportedError as error:
            raise UnsupportedError(f"{error.what} ({self.instruction.text})", self.at) from error

    def _access(self, kind: str, address: Term, value: Term) -> None:
        access = Access(kind, address, value, self.at, len(self.state.facts), self.state, self.sp)
        self.state = replace(self.state, accesses=(*self.state.accesses, access))

    def other(self, operation: Any) -> Exit | None:
        """Execute a CALLOTHER: a system instruction, by its name in SLEIGH."""
        name = operation.inputs[0].getUserDefinedOpName()
        operands = tuple(self.get(varnode) for varnode in operation.inputs[1:])
        if name == "SoftwareBreakpoint":
            return Exit("brk", operands[0])
        if name == "ExceptionReturn":
            return Exit("eret", const(0))
        meaning = system.MEANING.get(name)
        if meaning is None:
            meaning = self._without_model(operation, name)
        elif operation.output is not None:
            raise UnsupportedError(f"instruction {self.instruction.text} ({name})", self.at)
        self.record(name, operands)
        self.state = meaning(self.state, operands, self.at)
        return None

    def _without_model(self, operation: Any, name: str) -> system.Meaning:
        """Return an effect that no function may have, for a system instruction without a meaning."""
        result = operation.output
        read = result is not None and system_register(result) is None and name not in _WRITES
        if not self.instruction.is_system or read:
            raise UnsupportedError(f"instruction {self.instruction.text} ({name})", self.at)
        return system.other

    def compute(self, operation: Any) -> None:
        behavior = _BEHAVIOR.get_behavior_for_opcode(operation.opcode)
        inputs = operation.inputs
        values = [self.get(varnode) for varnode in inputs]
        if behavior.is_special or operation.output is None:
            raise UnsupportedError(f"p-code {operation.opcode.name} ({self.instruction.text})", self.at)
        try:
            if behavior.is_unary:
                result = behavior.evaluate_unary(operation.output.size, inputs[0].size, values[0])
            else:
                result = behavior.evaluate_binary(operation.output.size, inputs[0].size, *values)
        except pcode.AngrError as error:
            what = f"p-code {operation.opcode.name} ({self.instruction.text})"
            raise UnsupportedError(what, self.at) from error
        self.set(operation.output, result)


def execute(instruction: Instruction, state: State, el: int = 1) -> Iterator[Step]:
    """Yield each step with which ``instruction`` can end in ``state``; no solver prunes any.

    :param el: the exception level that it is executed at; what is defined at higher ones only is undefined.

    :raises UnsupportedError: for anything without a meaning, by name and address.
    """
    state = replace(state, trace=(*state.trace, instruction.address))
    if instruction.word in pointer_authentication.MEANING:
        state = pointer_authentication.MEANING[instruction.word](state, instruction.address)
        yield Step(state, instruction.address + SIZE)
        return
    copy = mops.part(instruction.word)
    if copy is not None:
        yield Step(memory_copy.execute(state, copy, instruction.address), instruction.address + SIZE)
        return
    first = _Run(instruction, state, {})
    if lowest_el(instruction.word) > el:
        first.record(UNDEFINED, ())
        yield Step(first.state, Exit("undefined", const(0)))
        return
    if unprivileged(instruction.word):
        first.record(UNPRIVILEGED, ())
    todo: list[tuple[_Run, int]] = [(first, 0)]
    following = instruction.address + SIZE
    while todo:
        run, index = todo.pop()
        if index >= len(instruction.operations):
            signed = loads_signed_to_w(instruction.word)
            yield Step(corrected(instruction.word, run.state) if signed else run.state, following)
            continue
        operation = instruction.operations[index]
        match operation.opcode.name:
            case "LOAD":
                run.load(operation)
            case "STORE":
                run.store(operation)
            case "CALLOTHER":
                leaves = run.other(operation)
                if leaves is not None:
                    yield Step(run.state, leaves)
                    continue
            case "BRANCH":
                target = operation.inputs[0]
                if target.space.name == "const":
                    todo.append((run, index + _relative(target)))
                else:
                    yield Step(run.state, target.offset)
                continue
            case "CBRANCH":
                target, condition = operation.inputs[0], run.get(operation.inputs[1]) != 0
                taken = _branch(run, condition, "branch taken")
                if taken is not None:
                    if target.space.name == "const":
                        todo.append((taken, index + _relative(target)))
                    else:
                        yield Step(taken.state, target.offset)
                fallen = _branch(run, Not(condition), "branch not taken")
                if fallen is not None:
                    todo.append((fallen, index + 1))
                continue
            case "CALL":
                yield Step(run.state, Exit("call", const(operation.inputs[0].offset)))
                continue
            case "CALLIND":
                yield Step(run.state, Exit("call", run.get(operation.inputs[0])))
                continue
            case "BRANCHIND":
                yield Step(run.state, Exit("br", run.get(operation.inputs[0])))
                continue
            case "RETURN":
                yield Step(run.state, Exit("ret", run.get(operation.inputs[0])))
                continue
            case _:
                run.compute(operation)
        todo.append((run, index + 1))


def _relative(target: Any) -> int:
    """Return a p-code relative branch: a signed count of operations."""
    bits = target.size * 8
    return int(target.offset - (1 << bits) if target.offset >> (bits - 1) else target.offset)


def _branch(run: _Run, condition: Formula, label: str) -> _Run | None:
    """Return ``run`` on the side where ``condition`` holds; None if the condition is plainly false."""
    if condition.is_false():
        return None
    state = run.state
    if not condition.is_true():
        state = state.assume((f"{label} at {run.at:#x}", condition))
    return _Run(run.instruction, state, dict(run.temporaries), run.sp)
