"""Instructions as they stand after they were copied to another address.

Facts: arch/arm64/kernel/alternative.c, get_alt_insn: a branch with an immediate keeps its target unless
that is in the copied instructions themselves; so does ADRP. Encodings: Arm ARM, C4.1.
"""

from __future__ import annotations

import struct

from kexec_verify.errors import TargetError
from kexec_verify.target.kernel import Kernel

_PAGE = 0xFFF
_BRANCHES = (
    # mask, value, lowest bit of the displacement, its bits
    (0x7C00_0000, 0x1400_0000, 0, 26),  # b, bl
    (0xFF00_0000, 0x5400_0000, 5, 19),  # b.cond
    (0x7E00_0000, 0x3400_0000, 5, 19),  # cbz, cbnz
    (0x7E00_0000, 0x3600_0000, 5, 14),  # tbz, tbnz
)


def copied(kernel: Kernel, source: int, target: int, size: int) -> bytes:
    """Return the *size* bytes of instructions at *source* as the kernel writes them to *target*.

    :raises TargetError: one of them has a literal or an ADR, which the kernel refuses, or a displacement
        that does not reach.
    """
    words = struct.unpack(f"<{size // 4}I", kernel.read(source, size))
    out = [
        _copied(kernel, word, source + 4 * row, target + 4 * row, range(source, source + size))
        for row, word in enumerate(words)
    ]
    return struct.pack(f"<{len(out)}I", *out)


def _copied(kernel: Kernel, word: int, source: int, target: int, block: range) -> int:
    for mask, value, low, bits in _BRANCHES:
        if word & mask == value:
            goal = source + 4 * _signed(word >> low, bits)
            if goal in block:
                return word
            return _with(kernel, word, goal - target >> 2, low, bits, target)
    if word & 0x9F00_0000 == 0x9000_0000:  # adrp
        pages = _signed((word >> 5 & 0x7_FFFF) << 2 | word >> 29 & 3, 21)
        goal = (source & ~_PAGE) + (pages << 12)
        moved = goal - (target & ~_PAGE) >> 12
        if not -(1 << 20) <= moved < 1 << 20:
            raise _unreachable(kernel, target)
        return word & 0x9F00_001F | (moved & 3) << 29 | (moved >> 2 & 0x7_FFFF) << 5
    literal = word & 0x3B00_0000 == 0x1800_0000
    if literal or word & 0x9F00_0000 == 0x1000_0000:
        raise TargetError(
            f"{kernel.source}: expected instructions that can be copied, found {word:#010x} at {source:#x}, "
            "which loads or forms an address near itself"
        )
    return word


def _with(kernel: Kernel, word: int, value: int, low: int, bits: int, at: int) -> int:
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise _unreachable(kernel, at)
    mask = (1 << bits) - 1
    return word & ~(mask << low) | (value & mask) << low


def _unreachable(kernel: Kernel, at: int) -> TargetError:
    return TargetError(f"{kernel.source}: expected a replacement for {at:#x} that reaches, found one too far")


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (value >> (bits - 1) << bits)
