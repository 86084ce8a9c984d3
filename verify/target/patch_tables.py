"""Where a kernel's tables of patch sites start and end, and what their entries hold.

Facts: arch/arm64/include/asm/alternative.h (struct alt_instr: two signed 32-bit distances, each from its
own field, to the original and to the replacement; capability, 16 bits; length of each, 8 bits);
include/linux/jump_label.h (struct jump_entry with relative addresses: code and target, 32 bits each, key,
64 bits, whose two lowest bits are flags); kernel/trace/ftrace.c (the table of function entries holds
64-bit addresses). The bounds are known to the linker, so symbols may name them, and to the code that walks
the table at boot. What an entry of each must look like tells where a table ends as well. Two of these
three ways must agree.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from capstone import arm64
from kexec_verify.errors import TargetError
from kexec_verify.target.constants import MASK, walk
from kexec_verify.target.kernel import Kernel

NOP = 0xD503201F
BTI_C = 0xD503245F
MOV_X9_X30 = 0xAA1E03E9
CALLBACK = 1 << 15
"""Of a capability: the replacement is the address of a function (ARM64_CB_BIT, from 5.17 on)."""
_MAX_CAPABILITIES = 256
_B = 0b000101
_ALTERNATIVE = struct.Struct("<iiHBB")
_JUMP = struct.Struct("<iiq")
_ENTRY = struct.Struct("<Q")
_PAIR = struct.Struct("<QQ")
_MAX_CODE = 1 << 12  # bytes of a function that is looked through for addresses
_SAMPLE_STEP = 1 << 11  # bytes; a table that is not much longer is not found without symbols
_SAMPLE_ENTRIES = 12  # in a row that no other data resembles


@dataclass(frozen=True)
class Alternative:
    """One struct alt_instr at *at*: addresses, and lengths in bytes.

    :param replacement: where the other instructions stand, or a function that makes them.
    """

    at: int
    original: int
    replacement: int
    capability: int
    size: int
    replacement_size: int

    @property
    def callback(self) -> bool:
        """The replacement is a function that writes the instructions."""
        return self.replacement_size == 0 and self.size != 0


@dataclass(frozen=True)
class JumpEntry:
    """One struct jump_entry at *at*: a NOP or a branch at *code*.

    :param likely: the instruction is the branch where the key is *not* set.
    """

    at: int
    code: int
    target: int
    key: int
    likely: bool


@dataclass(frozen=True)
class _Kind:
    """A kind of table.

    :param stride: bytes of an entry.
    :param symbols: those of its first byte and of the first byte behind it.
    :param walkers: functions that form these addresses.
    :param holds: whether an address has an entry that is not empty.
    """

    what: str
    stride: int
    symbols: tuple[str, str]
    walkers: tuple[str, ...]
    holds: Callable[[_Memory, int], bool]


def alternatives(kernel: Kernel) -> list[Alternative]:
    """Return the entries of the table of alternatives.

    :raises TargetError: two ways to its bounds disagree, only one is there, or an entry is malformed.
    """
    found = []
    for at, fields in _entries(kernel, _ALTERNATIVES, _ALTERNATIVE):
        original, replacement, capability, size, replacement_size = fields
        found.append(Alternative(at, at + original, at + 4 + replacement, capability, size, replacement_size))
    return found


def jump_entries(kernel: Kernel) -> list[JumpEntry]:
    """Return the entries of the table of static keys' sites.

    :raises TargetError: as :func:`alternatives`.
    """
    return [
        JumpEntry(at, at + code, at + 4 + target, at + 8 + (key & ~3), bool(key & 1))
        for at, (code, target, key) in _entries(kernel, _JUMPS, _JUMP)
    ]


def traced_entries(kernel: Kernel) -> list[int]:
    """Return the address of the first of two NOPs at each function entry that ftrace may patch.

    Functions compiled with NOPs before their entry (CONFIG_DYNAMIC_FTRACE_WITH_CALL_OPS) are listed by
    the first of those (arch/arm64/kernel/ftrace.c, ftrace_call_adjust).

    :raises TargetError: as :func:`alternatives`, or there are no two NOPs.
    """
    listed = [at for _, (at,) in _entries(kernel, _TRACED, _ENTRY) if at]
    memory = _Memory(kernel)
    plain: list[int | None] = []
    behind: list[int | None] = []
    for at in listed:
        words = memory.words(at, 5) or memory.words(at, 3) or ()
        plain.append(_entry_nops(at, words))
        behind.append(_entry_nops(at + 8, words[2:]) if words[:2] == (NOP, NOP) else None)
    found = plain if None in behind else behind
    nops = [at for at in found if at is not None]
    if len(nops) < len(found):
        at = listed[found.index(None)]
        raise TargetError(f"{kernel.source}: expected two NOPs for ftrace at {at:#x}, found other words")
    return nops


class _Memory:
    """The words of a kernel, for many reads."""

    def __init__(self, kernel: Kernel):
        self._parts = [
            (segment.address, segment.end - 3, memoryview(segment.data))
            for segment in kernel.segments
            if segment.data
        ]
        self._kernel = kernel

    def is_named(self, at: int) -> bool:
        """Return whether a symbol has the address *at*."""
        return bool(self._kernel.symbols_at(at))

    def part(self, at: int) -> tuple[int, memoryview] | None:
        """Return the segment that holds the word at *at*: its address and its bytes."""
        for start, end, data in self._parts:
            if start <= at < end:
                return start, data
        return None

    def words(self, at: int, count: int) -> tuple[int, ...] | None:
        """Return *count* 32-bit words at *at*; None if some of them are not in the file."""
        part = self.part(at)
        if part is None or at - part[0] + 4 * count > len(part[1]):
            return None
        return struct.unpack_from(f"<{count}I", part[1], at - part[0])

    def unpack(self, form: struct.Struct, at: int) -> tuple[int, ...] | None:
        """Return what *form* says of the bytes at *at*; None if some of them are not in the file."""
        part = self.part(at)
        if part is None or at - part[0] + form.size > len(part[1]):
            return None
        return form.unpack_from(part[1], at - part[0])


def _entries(kernel: Kernel, kind: _Kind, form: struct.Struct) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield the address and the fields of each entry of the table of this *kind*.

    :raises TargetError: as :func:`alternatives`.
    """
    memory = _Memory(kernel)
    start, stop = _bounds(kernel, memory, kind)
    data = kernel.read(start, stop - start)
    for number, fields in enumerate(form.iter_unpack(data)):
        yield start + number * kind.stride, fields


def _bounds(kernel: Kernel, memory: _Memory, kind: _Kind) -> tuple[int, int]:
    """Return the first address of a table and the first behind it; both 0 in a kernel without one."""
    named = _by_symbol(kernel, kind)
    if named is not None:
        start, stop = named
        if stop < start or (stop - start) % kind.stride or not kernel.mapped(start, stop - start):
            raise TargetError(f"{kernel.source}: expected {kind.what}, found a table {_shown(named)}")
        if start != stop and not _maximal(memory, kind, start, stop):
            raise TargetError(
                f"{kernel.source}: expected the table of {kind.what} {_shown(named)} to hold entries and to "
                "end with the last of them, found otherwise"
            )
        return named
    coded = set(_by_code(kernel, memory, kind))
    if len(coded) == 1:
        return coded.pop()
    if coded:
        texts = ", ".join(map(_shown, sorted(coded)))
        raise TargetError(f"{kernel.source}: expected one table of {kind.what}, found {texts}")
    if any(kernel.symbol(name) for name in kind.walkers) or _resembles(kernel, memory, kind):
        raise TargetError(
            f"{kernel.source}: expected two ways that agree on the bounds of the {kind.what}, found fewer"
        )
    return 0, 0


def _shown(bounds: tuple[int, int]) -> str:
    return f"{bounds[0]:#x} to {bounds[1]:#x}"


def _by_symbol(kernel: Kernel, kind: _Kind) -> tuple[int, int] | None:
    start, stop = (kernel.symbol(name) for name in kind.symbols)
    return None if start is None or stop is None else (start.address, stop.address)


def _by_code(kernel: Kernel, memory: _Memory, kind: _Kind) -> Iterator[tuple[int, int]]:
    """Yield pairs of addresses that a walker forms, or loads from a pair in memory, around a whole table."""
    for name in kind.walkers:
        formed = sorted(_formed(kernel, name))
        pairs = [(low, high) for low in formed for high in formed if low < high]
        pairs += [(pair[0], pair[1]) for at in formed if (pair := memory.unpack(_PAIR, at)) is not None]
        for low, high in pairs:
            if low < high and (high - low) % kind.stride == 0 and _maximal(memory, kind, low, high):
                yield low, high


def _formed(kernel: Kernel, name: str) -> set[int]:
    """Return the addresses that a function makes in registers, or addresses memory at."""
    symbol = kernel.symbol(name)
    if symbol is None or not kernel.mapped(symbol.address, 4):
        return set()
    size = min(symbol.size or _MAX_CODE, _MAX_CODE)
    while not kernel.mapped(symbol.address, size):
        size //= 2
    found: set[int] = set()
    for insn, known in walk(kernel, symbol.address, kernel.read(symbol.address, size - size % 4)):
        found |= set(known.values())
        for operand in insn.operands:
            if operand.type == arm64.ARM64_OP_MEM and not operand.mem.index:
                base = known.get(insn.reg_name(operand.mem.base) or "")
                if base is not None:
                    found.add((base + operand.mem.disp) & MASK)
    return {value for value in found if kernel.mapped(value) or kernel.mapped(value - 1)}


def _maximal(memory: _Memory, kind: _Kind, start: int, stop: int) -> bool:
    """The words from *start* up to *stop* are entries, and those beside them are none.

    Some kernels hold rows of zeros in place of entries that the linker dropped; the last row is an entry.
    """
    holds = kind.holds
    if holds(memory, start - kind.stride) or holds(memory, stop) or not holds(memory, stop - kind.stride):
        return False
    for at in range(start, stop, kind.stride):
        if not holds(memory, at):
            words = memory.words(at, kind.stride // 4)
            if words is None or any(words):
                return False
    return True


def _resembles(kernel: Kernel, memory: _Memory, kind: _Kind) -> bool:
    """Some bytes of the kernel look like a table: enough to refuse a kernel in which nothing bounds it."""
    for segment in kernel.segments:
        low = -(-segment.address // 8) * 8
        for sample in range(low, segment.end, _SAMPLE_STEP):
            for phase in range(0, kind.stride, 8 if kind.stride % 8 == 0 else 4):
                at = sample + phase
                if all(kind.holds(memory, at + row * kind.stride) for row in range(_SAMPLE_ENTRIES)):
                    return True
    return False


def _is_alternative(memory: _Memory, at: int) -> bool:
    fields = memory.unpack(_ALTERNATIVE, at)
    if fields is None:
        return False
    original, replacement, capability, size, replacement_size = fields
    if size % 4 or replacement_size not in (0, size) or not original or not replacement:
        return False
    if capability & ~CALLBACK >= _MAX_CAPABILITIES or (capability & CALLBACK and replacement_size):
        return False
    first, second = at + original, at + 4 + replacement
    if (first | second) & 3 or memory.part(first) is None:
        return False
    # Objects that are linked without the rest of the kernel name functions that are not in the file.
    return memory.part(second) is not None or (not replacement_size and memory.is_named(second))


def _is_jump(memory: _Memory, at: int) -> bool:
    fields = memory.unpack(_JUMP, at)
    if fields is None:
        return False
    code, target, key = fields
    site, goal = at + code, at + 4 + target
    if (site | goal) & 3 or not -(1 << 31) <= key < 1 << 31 or not key & ~3:
        return False
    words = memory.words(site, 1)
    return words is not None and words[0] in (NOP, branch(site, goal)) and memory.part(goal) is not None


def _is_traced(memory: _Memory, at: int) -> bool:
    fields = memory.unpack(_ENTRY, at)
    if fields is None or not fields[0] or fields[0] & 3:
        return False
    words = memory.words(fields[0], 2)
    if words is None:
        return False
    return words[0] in (NOP, MOV_X9_X30, BTI_C) and words[1] in (NOP, MOV_X9_X30)


def _entry_nops(at: int, words: tuple[int, ...]) -> int | None:
    """Return the address of the two NOPs at the function entry *at*, which a landing pad may precede."""
    skipped = 1 if words[:1] == (BTI_C,) else 0
    pair = words[skipped : skipped + 2]
    return at + 4 * skipped if pair in ((NOP, NOP), (MOV_X9_X30, NOP)) else None


def branch(at: int, target: int) -> int:
    """Return the instruction ``b target`` at *at* (Arm ARM, C6.2.26)."""
    return _B << 26 | (target - at) >> 2 & 0x3FF_FFFF


def overlapping(ranges: Iterable[tuple[int, int]]) -> tuple[int, int] | None:
    """Return the addresses of two of *ranges* (start and end) that overlap; None if none do."""
    end, last = 0, 0
    for start, stop in sorted(ranges):
        if start < end and stop > start:
            return last, start
        if stop > start:
            end, last = stop, start
    return None


_ALTERNATIVES = _Kind(
    "alternatives",
    12,
    ("__alt_instructions", "__alt_instructions_end"),
    ("__apply_alternatives_multi_stop", "apply_alternatives_all", "apply_boot_alternatives"),
    _is_alternative,
)
_JUMPS = _Kind(
    "static keys' sites",
    16,
    ("__start___jump_table", "__stop___jump_table"),
    ("jump_label_init",),
    _is_jump,
)
_TRACED = _Kind(
    "function entries that ftrace patches",
    8,
    ("__start_mcount_loc", "__stop_mcount_loc"),
    ("ftrace_init",),
    _is_traced,
)
