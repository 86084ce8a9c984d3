"""Compare functions of two kernels by name: equal except for addresses, or which instructions differ."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from capstone import arm64
from kexec_verify.diff.address_names import AddressNames
from kexec_verify.diff.model import FunctionDiff, Hunk
from kexec_verify.diff.side import Side
from kexec_verify.errors import TargetError
from kexec_verify.kexec.context import RESTART
from kexec_verify.kexec.locate import find_function
from kexec_verify.kexec.soft_restart import COPIED_VECTORS, VECTORS
from kexec_verify.target import Kernel
from kexec_verify.target.constants import MASK, walk

_FIXED = ("machine_kexec", "machine_kexec_post_load")
_STUB = (VECTORS, "el1_sync", COPIED_VECTORS)
_TABLE_BYTES = 2048  # a vector table (Arm ARM, D1.3.1)
_TARGET = re.compile(r"#?0x[0-9a-f]+$")
_IMMEDIATE = re.compile(r"#-?(0x)?[0-9a-f]+")
_BRANCHES = {
    *(arm64.ARM64_INS_B, arm64.ARM64_INS_BL, arm64.ARM64_INS_CBZ, arm64.ARM64_INS_CBNZ),
    *(arm64.ARM64_INS_TBZ, arm64.ARM64_INS_TBNZ),
}
_ADDRESSES = {arm64.ARM64_INS_ADRP, arm64.ARM64_INS_ADR}
_USES = {
    *(arm64.ARM64_INS_ADD, arm64.ARM64_INS_LDR, arm64.ARM64_INS_LDRSW, arm64.ARM64_INS_STR),
    *(arm64.ARM64_INS_LDRB, arm64.ARM64_INS_STRB, arm64.ARM64_INS_LDP),
}


@dataclass(frozen=True)
class _Line:
    """One instruction: what is compared of it, what is shown, and where it branches within the function."""

    at: int
    key: str
    text: str
    target: int | None = None


@dataclass
class Matched:
    """Every function of either kernel, and the instructions that have no equal in the other."""

    functions: list[FunctionDiff] = field(default_factory=list)
    changed_old: set[int] = field(default_factory=set)
    changed_new: set[int] = field(default_factory=set)

    def same(self, name: str) -> bool:
        """Return whether both kernels have the function, equal except for addresses."""
        return any(diff.name == name and diff.state == "same" for diff in self.functions)


def match(old: Side, new: Side) -> Matched:
    """Match the functions that kexec consists of, by name."""
    found = Matched()
    for name, left, right in _pairs(old, new):
        lines = _lines(old, left), _lines(new, right)
        if lines[0] is None and lines[1] is None:
            continue
        found.functions.append(_compare(name, lines[0], lines[1], old.places, new.places, found))
    return found


def _pairs(old: Side, new: Side) -> Iterator[tuple[str, str, str]]:
    """Yield the name to show, and the name in either kernel."""
    yield old.routine.name, old.routine.name, new.routine.name
    for name in _FIXED:
        yield name, name, name
    restart = [next((n for n in RESTART if side.kernel.symbol(n) is not None), "") for side in (old, new)]
    yield restart[1] or restart[0], restart[0], restart[1]
    for name in (*_STUB, *sorted({*old.used, *new.used})):
        yield name, name, name


def _lines(side: Side, name: str) -> list[_Line] | None:
    if name == side.routine.name:
        return list(_read(side, side.routine.address, side.routine.code))
    symbol = side.kernel.symbol(name) if name else None
    if symbol is None:
        return None
    if name in (VECTORS, COPIED_VECTORS) and side.kernel.mapped(symbol.address, _TABLE_BYTES):
        # The table's own labels would end it at its first handler.
        return list(_read(side, symbol.address, side.kernel.read(symbol.address, _TABLE_BYTES)))
    try:
        function = find_function(side.kernel, name)
    except TargetError:
        return None
    return list(_read(side, function.address, function.code))


def _read(side: Side, address: int, code: bytes) -> Iterator[_Line]:
    kernel: Kernel = side.kernel
    globals_ = {}
    if side.context is not None:
        globals_ = {value: name for name, value in side.context.globals.addresses.items()}

    def datum(value: int) -> str:
        # A string or a word without a symbol: its address means nothing.
        if value in globals_:
            return globals_[value]
        names = kernel.symbols_at(value)
        return names[0] if names else "a datum"

    end = address + len(code)
    reached = address
    for insn, known in walk(kernel, address, code):
        while reached < insn.address:
            yield _raw(code, address, reached)
            reached += 4
        reached = insn.address + 4
        text = f"{insn.mnemonic} {insn.op_str}".strip()
        word = int.from_bytes(insn.bytes, "little")
        shown = f"{word:08x}  {text}"
        key, target = text, None
        operands = insn.operands
        if insn.id in _BRANCHES and operands and operands[-1].type == arm64.ARM64_OP_IMM:
            value = operands[-1].imm & MASK
            if address <= value < end:
                target, key = value, _TARGET.sub("", text)
            else:
                key = _TARGET.sub(side.places.name(value), text)
            shown = f"{word:08x}  {_TARGET.sub(side.places.name(value), text)}"
        elif insn.id in _ADDRESSES:
            key = f"{insn.mnemonic} {insn.reg_name(operands[0].reg)}"
        elif insn.id in _USES:
            value = _used(insn, known)
            if value is not None and value >= kernel.segments[0].address:
                key = f"{_IMMEDIATE.sub('', text)} {datum(value)}"
        yield _Line(insn.address, key, shown, target)
    while reached < end:
        yield _raw(code, address, reached)
        reached += 4


def _raw(code: bytes, start: int, at: int) -> _Line:
    word = int.from_bytes(code[at - start : at - start + 4], "little")
    return _Line(at, f"{word:08x}", f"{word:08x}")


def _used(insn: object, known: dict[str, int]) -> int | None:
    """Return the constant address that an instruction computes or accesses, from the registers before it."""
    for operand in insn.operands[1:]:  # type: ignore[attr-defined]
        if operand.type == arm64.ARM64_OP_MEM and not operand.mem.index:
            base = known.get(insn.reg_name(operand.mem.base))  # type: ignore[attr-defined]
            return None if base is None else (base + operand.mem.disp) & MASK
    operands = insn.operands  # type: ignore[attr-defined]
    if len(operands) == 3 and operands[2].type == arm64.ARM64_OP_IMM:
        base = known.get(insn.reg_name(operands[1].reg))  # type: ignore[attr-defined]
        return None if base is None else (base + operands[2].imm) & MASK
    return None


def _compare(
    name: str,
    old: list[_Line] | None,
    new: list[_Line] | None,
    old_places: AddressNames,
    new_places: AddressNames,
    found: Matched,
) -> FunctionDiff:
    if old is None or new is None:
        state = "only old" if new is None else "only new"
        lines = old if old is not None else new or []
        (found.changed_old if new is None else found.changed_new).update(line.at for line in lines)
        return FunctionDiff(name, state, 4 * len(old or ()), 4 * len(new or ()))
    matcher = difflib.SequenceMatcher(a=[x.key for x in old], b=[x.key for x in new], autojunk=False)
    partner = {
        old[block.a + i].at: new[block.b + i].at
        for block in matcher.get_matching_blocks()
        for i in range(block.size)
    }
    # A branch is the same if what it goes to is: only now it is known what that is matched with.
    pairs = {line.at: line for line in new}
    for line in old:
        other = pairs.get(partner.get(line.at, -1))
        if other is not None and line.target is not None and partner.get(line.target) != other.target:
            del partner[line.at]
    kept = set(partner.values())
    gone = [line for line in old if line.at not in partner]
    come = [line for line in new if line.at not in kept]
    found.changed_old.update(line.at for line in gone)
    found.changed_new.update(line.at for line in come)
    if not gone and not come:
        return FunctionDiff(name, "same", 4 * len(old), 4 * len(new))
    hunks = tuple(_hunks(old, new, partner, old_places, new_places))
    return FunctionDiff(name, "changed", 4 * len(old), 4 * len(new), len(gone), len(come), hunks)


def _hunks(
    old: list[_Line],
    new: list[_Line],
    partner: dict[int, int],
    old_places: AddressNames,
    new_places: AddressNames,
) -> Iterator[Hunk]:
    i = j = 0
    while i < len(old) or j < len(new):
        if i < len(old) and j < len(new) and partner.get(old[i].at) == new[j].at:
            i, j = i + 1, j + 1
            continue
        first = i, j
        kept = set(partner.values())
        while i < len(old) and old[i].at not in partner:
            i += 1
        while j < len(new) and new[j].at not in kept:
            j += 1
        if (i, j) == first:  # matched with something elsewhere: matches never cross
            break
        yield Hunk(
            _place(old, first[0], old_places),
            _place(new, first[1], new_places),
            tuple(line.text for line in old[first[0] : i]),
            tuple(line.text for line in new[first[1] : j]),
        )


def _place(lines: list[_Line], index: int, places: AddressNames) -> str:
    return (
        places.name(lines[index].at) if index < len(lines) else f"the end, after {places.name(lines[-1].at)}"
    )
