"""Decide whether two functions are equal: byte for byte, or except for addresses."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator

import capstone
from kexec_verify.report.model import FunctionRecord, InstructionRecord
from kexec_verify.sweep.model import Function

# Encodings by mask and value, and the field that depends on an address (Arm ARM, C4.1).
_RELATIVE = (
    (0x7C000000, 0x14000000, 0x03FFFFFF),  # b, bl
    (0xFF000000, 0x54000000, 0x00FFFFE0),  # b.cond
    (0x7E000000, 0x34000000, 0x00FFFFE0),  # cbz, cbnz
    (0x7E000000, 0x36000000, 0x0007FFE0),  # tbz, tbnz
    (0x3B000000, 0x18000000, 0x00FFFFE0),  # ldr (literal)
)
_ADRP = (0x9F000000, 0x90000000)
_CALLS = (
    (0xFC000000, 0x94000000),  # bl
    (0xFFFFFC1F, 0xD63F0000),  # blr
    (0xFFE0001F, 0xD4000002),  # hvc
)
_CLOBBERED = frozenset((*range(19), 30))  # AAPCS64, 6.1.1
_NONE: frozenset[int] = frozenset()
_ADR = (0x1F000000, 0x10000000, 0x60FFFFE0)  # adr, adrp
_IN_PAGE = (
    (0x7F800000, 0x11000000, 0x003FFC00),  # add (immediate)
    (0x3B000000, 0x39000000, 0x003FFC00),  # loads and stores, unsigned offset
)


def identity(function: FunctionRecord) -> Function:
    """Return the function's digests."""
    words = b"".join(_bytes(record) for record in function.instructions)
    return Function(
        function.name,
        function.address,
        function.size,
        hashlib.sha256(words).hexdigest(),
        hashlib.sha256(b"".join(_unplaced(function))).hexdigest(),
    )


def _bytes(record: InstructionRecord) -> bytes:
    return record.word.to_bytes(4, "little")


def _unplaced(function: FunctionRecord) -> Iterator[bytes]:
    """Return each instruction without the fields that depend on addresses outside of the function.

    These are the immediates of adr and adrp, the distance of a branch or literal that is outside, and
    the offset that is added to the address of a page.
    """
    pages = _pages(function)
    end = function.address + 4 * len(function.instructions)
    for record in function.instructions:
        word = record.word
        mask, value, where = _ADR
        if word & mask == value:
            word &= ~where
        for mask, value, where in _RELATIVE:
            target = record.address + 4 * _distance(word, where)
            if word & mask == value and not function.address <= target < end:
                word &= ~where
        for mask, value, where in _IN_PAGE:
            if word & mask == value and word >> 5 & 31 in pages.get(record.address, _NONE):
                word &= ~where
        yield word.to_bytes(4, "little")


def _distance(word: int, where: int) -> int:
    """Return the signed field of ``word`` that ``where`` masks."""
    low = (where & -where).bit_length() - 1
    bits = where.bit_count()
    found = (word & where) >> low
    return found - (1 << bits) if found >> (bits - 1) else found


def _pages(function: FunctionRecord) -> dict[int, frozenset[int]]:
    """Return, by address, the registers that an adrp has set last, on every path to that instruction.

    Code that no branch leads to, which a static key may be patched to reach, begins with none.
    """
    listed = {record.address: record for record in function.instructions}
    found: dict[int, frozenset[int]] = {}
    for start in listed:
        if start not in found:
            _follow(listed, start, found)
    return found


def _follow(listed: dict[int, InstructionRecord], start: int, found: dict[int, frozenset[int]]) -> None:
    """Add to ``found`` what ``start`` leads to and nothing has led to before."""
    settled = set(found)
    found[start] = _NONE
    todo = [start]
    while todo:
        record = listed[todo.pop()]
        after = _after(record, found[record.address])
        for target in record.then:
            if target not in listed or target in settled:
                continue
            before = found.get(target)
            met = after if before is None else before & after
            if met != before:
                found[target] = met
                todo.append(target)


def _after(record: InstructionRecord, before: frozenset[int]) -> frozenset[int]:
    """Return those registers after the instruction, given those before it."""
    mask, value = _ADRP
    if record.word & mask == value:
        return before | {record.word & 31}
    if any(record.word & mask == value for mask, value in _CALLS):
        return before - _CLOBBERED
    insn = next(_decoder().disasm(_bytes(record), record.address), None)
    if insn is None:
        return _NONE
    names = [insn.reg_name(register) for register in insn.regs_access()[1]]
    return before - {int(name[1:]) for name in names if name[0] in "wx" and name[1:].isdigit()}


@functools.cache
def _decoder() -> capstone.Cs:
    decoder = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
    decoder.detail = True
    return decoder
