"""Decode A64 instructions to p-code, and find the control flow of a function."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx
import pypcode
from kexec_verify.arm64 import mops
from kexec_verify.arm64.legality import illegal
from kexec_verify.arm64.refused import refused
from kexec_verify.errors import UnsupportedError

SIZE = 4  # bytes of an A64 instruction
_SP = 31

# paciasp and autiasp: the engine has a meaning of its own for them.
_GIVEN_MEANING = frozenset({0xD503_233F, 0xD503_23BF})


@dataclass(frozen=True)
class Instruction:
    """One decoded instruction at a virtual address.

    :param operations: its p-code, without the marker.
    """

    address: int
    word: int
    text: str
    operations: Sequence[Any]

    @property
    def opcodes(self) -> list[str]:
        """Return the names of the p-code operations."""
        return [operation.opcode.name for operation in self.operations]

    @property
    def is_system(self) -> bool:
        """Return whether it is a system or an exception generating instruction (Arm ARM, C4.1.94)."""
        return self.word >> 24 in (0xD4, 0xD5)

    @property
    def through_sp(self) -> bool:
        """Return whether it loads or stores with SP as the base register (Arm ARM, C4.1.94)."""
        memory = self.word >> 25 & 0b101 == 0b100
        literal = self.word & 0x3B00_0000 == 0x1800_0000
        return memory and not literal and self.word >> 5 & 31 == _SP

    @property
    def call_target(self) -> int | None:
        """Return where a ``bl`` goes; None for any other instruction."""
        for operation in self.operations:
            if operation.opcode.name == "CALL":
                return int(operation.inputs[0].offset)
        return None


@functools.cache
def _sleigh() -> Any:
    return pypcode.Context("AARCH64:LE:64:v8A")


@functools.cache
def registers() -> dict[str, Any]:
    """Return SLEIGH's registers by name, with ``offset`` and ``size`` in bytes."""
    return dict(_sleigh().registers)


@functools.cache
def _system_registers() -> dict[int, str]:
    """Return SLEIGH's system registers by offset, from SPSR_EL1 up to the decoder's context."""
    first, end = registers()["spsr_el1"].offset, registers()["contextreg"].offset
    return {int(r.offset): name for name, r in registers().items() if first <= r.offset < end}


def system_register(varnode: Any) -> str | None:
    """Return the system register that ``varnode`` is; None for anything else.

    NZCV does not count: SLEIGH keeps the flags in registers of their own.
    """
    if varnode.space.name != "register":
        return None
    name = _system_registers().get(int(varnode.offset))
    return None if name == "nzcv" else name


def text_of(word: int, address: int) -> str:
    """Return ``word`` at ``address`` disassembled, whether or not it may be executed."""
    try:
        shown = _sleigh().disassemble(word.to_bytes(SIZE, "little"), address, max_instructions=1).instructions
    except (pypcode.BadDataError, pypcode.UnimplError, pypcode.LowlevelError):
        shown = []
    if len(shown) != 1 or shown[0].length != SIZE:
        return f".inst {word:#010x}"
    return f"{shown[0].mnem} {shown[0].body}".strip()


@functools.cache
def decode(word: int, address: int) -> Instruction:
    """Return the instruction encoded by ``word`` at ``address``.

    :raises UnsupportedError: if SLEIGH has no such instruction, or none that can be relied on, or
        if Armv8.0-A has none, so that it is legal on some CPUs only.
    """
    data, sleigh = word.to_bytes(SIZE, "little"), _sleigh()
    try:
        translated = sleigh.translate(data, address, max_instructions=1).ops
        shown = sleigh.disassemble(data, address, max_instructions=1).instructions
    except (pypcode.BadDataError, pypcode.UnimplError, pypcode.LowlevelError):
        translated = shown = []
    if len(shown) != 1 or shown[0].length != SIZE:
        raise UnsupportedError(f"instruction {word:#010x}", address)
    text = f"{shown[0].mnem} {shown[0].body}".strip()
    reason = illegal(word) or (None if word in _GIVEN_MEANING else refused(word))
    if reason is not None:
        raise UnsupportedError(f"instruction {text} ({reason})", address)
    operations = [operation for operation in translated if operation.opcode.name != "IMARK"]
    return Instruction(address, word, text, operations)


@functools.cache
def _decode_copy(word: int, address: int) -> Instruction:
    """Return an instruction that copies memory; arm64/memory_copy.py has its meaning, so it has no p-code."""
    return Instruction(address, word, text_of(word, address), ())


class Code:
    """The bytes of one function, at the address it is linked or run at.

    :param calls: it may branch to other functions, as compiled C does.
    :param warnings: addresses of ``brk`` instructions that the kernel resumes after (WARN).
    :param final: addresses of functions that never return.
    :param continuations: other ranges of bytes that it branches to and that are run as part of it.
    :param el: the exception level that it runs at: 1 for the kernel, 2 for its stub at EL2.
    :param unknown: addresses of instructions that are not known, and why.
    :param either: addresses of instructions that are one of two at any time: where a static key is not set,
        and where it is.
    :param copies_memory: every CPU that runs it has FEAT_MOPS.
    :raises UnsupportedError: on reading an instruction outside of it.
    """

    def __init__(
        self,
        name: str,
        address: int,
        data: bytes,
        calls: bool = False,
        warnings: frozenset[int] = frozenset(),
        final: frozenset[int] = frozenset(),
        el: int = 1,
        continuations: tuple[Code, ...] = (),
        unknown: Mapping[int, str] | None = None,
        either: Mapping[int, tuple[int, int]] | None = None,
        copies_memory: bool = False,
    ):
        self.name = name
        self.address = address
        self.data = data
        self.calls = calls
        self.warnings = warnings
        self.final = final
        self.el = el
        self.continuations = continuations
        self.unknown = unknown or {}
        self.either = either or {}
        self.copies_memory = copies_memory

    @property
    def pieces(self) -> tuple[Code, ...]:
        """Return every range of bytes of the function, its own first."""
        return (self, *self.continuations)

    @property
    def end(self) -> int:
        """Return the first address after the function."""
        return self.address + len(self.data)

    @property
    def addresses(self) -> range:
        """Return the address of each instruction of its own range."""
        return range(self.address, self.end - SIZE + 1, SIZE)

    def at(self, address: int) -> Instruction:
        """Return the instruction at ``address``."""
        piece = self._piece(address)
        if address in piece.unknown:
            raise UnsupportedError(piece.unknown[address], address)
        word = self.word(address)
        copy = mops.part(word) if self.copies_memory else None
        if copy is not None:
            first = address - copy.number * SIZE
            if all(at in piece for at in range(first, first + 3 * SIZE, SIZE)) and mops.is_whole(
                [piece.word(at) for at in range(first, first + 3 * SIZE, SIZE)]
            ):
                return _decode_copy(word, address)
        return decode(word, address)

    def word(self, address: int) -> int:
        """Return the encoding of the instruction at ``address``."""
        piece = self._piece(address)
        offset = address - piece.address
        if not 0 <= offset <= len(piece.data) - SIZE or offset % SIZE:
            raise UnsupportedError(f"control leaves {self.name}", address)
        return int.from_bytes(piece.data[offset : offset + SIZE], "little")

    def ways(self, address: int) -> tuple[Instruction, ...]:
        """The instruction at ``address``; of one that is either of two, for a key not set and set."""
        if address in self.either:
            return tuple(decode(word, address) for word in self.either[address])
        return (self.at(address),)

    def as_taken(self, trace: Sequence[int]) -> Code | None:
        """The function with the instructions with which a run takes the path ``trace``.

        :returns: None if an instruction that is one of two is taken both ways.
        """
        words: dict[int, int] = {}
        for at, following in itertools.pairwise(trace):
            if at in self.either:
                goes = [word for word in self.either[at] if following in successors(decode(word, at))]
                if not goes or words.setdefault(at, goes[0]) not in goes:
                    return None
        found = self
        for at, word in words.items():
            found = found.patched(at, word)
        return found

    def _piece(self, address: int) -> Code:
        """Return the range that holds ``address``; its own if none does."""
        return next((piece for piece in self.continuations if address in piece), self)

    def where(self, address: int) -> str:
        """Return ``address`` as the kernel prints it: ``symbol+offset/size``."""
        piece = self._piece(address)
        if piece is not self:
            return piece.where(address)
        return f"{self.name}+{address - self.address:#x}/{len(self.data):#x}"

    def text(self, instruction: Instruction, outside: Callable[[int], str] = hex) -> str:
        """Return ``instruction`` disassembled, with a branch's or call's target as the kernel prints it.

        :param outside: what an address in no instruction of the function is called.
        """
        before, _, last = instruction.text.rpartition(" ")
        for operation in instruction.operations:
            if operation.opcode.name in ("BRANCH", "CBRANCH", "CALL"):
                if operation.inputs[0].space.name == "ram":
                    target = int(operation.inputs[0].offset)
                    return f"{before} {self.where(target) if target in self else outside(target)}"
        if before.startswith(("adr ", "adrp ")):
            return f"{before} {int(last, 0) % (1 << 64):#x}"  # SLEIGH prints it as a signed number
        return instruction.text

    def enters(self, target: int) -> bool:
        """Return whether a call of ``target`` is run as part of the function."""
        return any(piece.address == target for piece in self.continuations)

    def patched(self, address: int, word: int) -> Code:
        """Return the same function with one instruction replaced."""
        offset = address - self.address
        data = self.data[:offset] + word.to_bytes(SIZE, "little") + self.data[offset + SIZE :]
        return Code(
            self.name, self.address, data, self.calls, self.warnings, self.final, self.el,
            self.continuations, self.unknown, self.either, self.copies_memory,
        )  # fmt: skip

    def __contains__(self, address: int) -> bool:
        return self.address <= address < self.end or any(address in piece for piece in self.continuations)


def successors(instruction: Instruction) -> list[int]:
    """Return the addresses that control may go to within the function; none after ``br`` or ``ret``."""
    following = instruction.address + SIZE
    found: list[int] = []
    falls = True
    for operation in instruction.operations:
        kind = operation.opcode.name
        if kind in ("BRANCH", "CBRANCH") and operation.inputs[0].space.name == "ram":
            found.append(operation.inputs[0].offset)
        if kind in ("BRANCH", "BRANCHIND", "RETURN"):
            falls = False
    return [following, *found] if falls else found


def control_flow(code: Code) -> networkx.DiGraph:
    """Return the graph of instruction addresses that are reachable from the first one.

    There is no edge where control leaves the function: a path that goes there finds no instruction
    (``Code.at`` raises), and a run ends. A call through a register ends a path, as a call of a function that
    never returns does: kexec's code makes such calls to leave for good, and a compiler may place anything
    after them. A callee that is run in place has an edge from its call, and none leads back.
    """
    graph = networkx.DiGraph()
    graph.add_node(code.address)
    todo = [code.address]
    while todo:
        address = todo.pop()
        following = [address + SIZE] if address in code.warnings else []
        ways = code.ways(address)
        if code.calls and any("CALLIND" in i.opcodes or i.call_target in code.final for i in ways):
            continue
        called = [i.call_target for i in ways if i.call_target is not None]
        following += [target for target in called if code.calls and code.enters(target)]
        for target in [*(target for way in ways for target in successors(way)), *following]:
            if target in code:
                if target not in graph:
                    todo.append(target)
                graph.add_edge(address, target)
    return graph


_ROOT = -1
"""A node before every address at which paths begin."""


@dataclass(frozen=True)
class Loop:
    """A natural loop: its head, and every instruction address in it.

    :param inner: the addresses of the smallest loop with this head, which the rest of the body enters again;
        the body itself if there is none such.
    """

    head: int
    body: frozenset[int]
    inner: frozenset[int]

    def goes_round(self, tail: int) -> bool:
        """Return whether control that comes from ``tail`` begins another iteration of the inner loop."""
        return tail in self.inner


def loops(code: Code, cuts: frozenset[int] = frozenset()) -> list[Loop]:
    """Return the natural loops of a function, outer before inner.

    :param cuts: addresses at which every path is cut: what goes round only through them is no loop.
    :raises UnsupportedError: if a cycle has no single head (irreducible control flow).
    """
    graph = control_flow(code)
    graph.remove_edges_from([(tail, head) for tail, head in graph.edges if head in cuts])
    graph.add_edges_from((_ROOT, start) for start in {code.address, *cuts} if start in graph)
    dominators = networkx.immediate_dominators(graph, _ROOT)

    def dominates(head: int, node: int) -> bool:
        while node != head:
            parent = dominators.get(node, node)
            if parent is None or parent == node:
                return False
            node = parent
        return True

    bodies: dict[int, list[frozenset[int]]] = {}
    acyclic = graph.copy()
    for tail, head in graph.edges:
        if dominates(head, tail):
            acyclic.remove_edge(tail, head)
            body = {head}
            todo = [tail]
            while todo:
                node = todo.pop()
                if node not in body:
                    body.add(node)
                    todo.extend(graph.predecessors(node))
            bodies.setdefault(head, []).append(frozenset(body))
    if not networkx.is_directed_acyclic_graph(acyclic):
        cycle = networkx.find_cycle(acyclic)
        raise UnsupportedError(f"loop without a single head in {code.name}", cycle[0][0])
    found = []
    for head, parts in bodies.items():
        whole, least = frozenset().union(*parts), min(parts, key=len)
        repeated = all(least <= part for part in parts) and parts.count(least) == 1
        found.append(Loop(head, whole, least if repeated else whole))
    return sorted(found, key=lambda loop: (-len(loop.body), loop.head))
