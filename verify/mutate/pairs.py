"""Make mutants with two changes at once, since the second may hide what the first would show."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence

from kexec_verify.arm64.lift import SIZE

NOP = 0xD503_201F
_BITS = 32
_BARRIER_MASK, _BARRIER = 0xFFFF_F01F, 0xD503_301F  # CLREX, DSB, DMB, ISB (Arm ARM, C4.1.94)
_NEAR = range(2, 5)
_MOVES = (-3, -2, -1, 1, 2, 3)

type Changed = tuple[str, bytes]


def pairs(code: bytes, slots: Sequence[int] | None = None) -> Iterator[Changed]:
    """Yield every mutant with two changes of ``code``, one kind after the other.

    :param slots: offsets of the instructions to change; None for all.
    :returns: pairs of the change in words and the changed bytes, in a fixed order.
    """
    for kind in KINDS:
        yield from of_kind(kind, code, slots)


def of_kind(kind: str, code: bytes, slots: Sequence[int] | None = None) -> Iterator[Changed]:
    """Yield the mutants of one of ``KINDS``."""
    among = list(range(0, len(code), SIZE)) if slots is None else list(slots)
    for name, changed in KINDS[kind](code, among):
        if changed != code:
            yield name, changed


def sample(mutants: Iterable[Changed], count: int, seed: int) -> list[Changed]:
    """Return at most ``count`` of the mutants, in their order; the same ones for the same seed."""
    found = list(mutants)
    if len(found) <= count:
        return found
    chosen = sorted(random.Random(seed).sample(range(len(found)), count))
    return [found[i] for i in chosen]


def sample_pairs(code: bytes, slots: Sequence[int] | None, count: int, seed: int) -> list[Changed]:
    """Return at most ``count`` pairs, equally many of each kind if there are enough."""
    groups = [list(of_kind(kind, code, slots)) for kind in KINDS]
    groups.sort(key=len)
    chosen: list[Changed] = []
    for i, group in enumerate(groups):
        chosen += sample(group, (count - len(chosen)) // (len(groups) - i), seed)
    return chosen


def _near(code: bytes, slots: list[int]) -> Iterator[Changed]:
    """Exchange two instructions that have others between them."""
    for i, one in enumerate(slots):
        for distance in _NEAR:
            if i + distance < len(slots):
                other = slots[i + distance]
                yield f"+{one:#x} ↔ +{other:#x}", _exchanged(code, one, other)


def _twice(code: bytes, slots: list[int]) -> Iterator[Changed]:
    """Exchange two pairs of neighbours."""
    for i in range(len(slots) - 1):
        for j in range(i + 1, min(i + 6, len(slots) - 1)):
            one = _exchanged(code, slots[i], slots[i + 1])
            both = _exchanged(one, slots[j], slots[j + 1])
            yield f"+{slots[i]:#x} ↔ +{slots[i + 1]:#x}, +{slots[j]:#x} ↔ +{slots[j + 1]:#x}", both


def _barriers(code: bytes, slots: list[int]) -> Iterator[Changed]:
    """Move a barrier, and replace an instruction near its old place by a NOP, or move it only."""
    for i, slot in enumerate(slots):
        if _word(code, slot) & _BARRIER_MASK != _BARRIER:
            continue
        for by in _MOVES:
            if not 0 <= i + by < len(slots):
                continue
            moved = _moved(code, slots, i, i + by)
            yield f"barrier +{slot:#x} to +{slots[i + by]:#x}", moved
            for near in range(max(0, i - 2), min(len(slots), i + 3)):
                name = f"barrier +{slot:#x} to +{slots[i + by]:#x}, then +{slots[near]:#x}: nop"
                yield name, _with(moved, slots[near], NOP)


def _nop_and_bit(code: bytes, slots: list[int]) -> Iterator[Changed]:
    """Replace an instruction by a NOP, and flip one bit of the next or of the previous."""
    for i, slot in enumerate(slots):
        for j in (i - 1, i + 1):
            if not 0 <= j < len(slots):
                continue
            for bit in range(_BITS):
                flipped = _word(code, slots[j]) ^ 1 << bit
                changed = _with(_with(code, slot, NOP), slots[j], flipped)
                yield f"+{slot:#x}: nop, +{slots[j]:#x}: {flipped:#010x}", changed


def _word(code: bytes, offset: int) -> int:
    return int.from_bytes(code[offset : offset + SIZE], "little")


def _with(code: bytes, offset: int, word: int) -> bytes:
    return code[:offset] + word.to_bytes(SIZE, "little") + code[offset + SIZE :]


def _exchanged(code: bytes, one: int, other: int) -> bytes:
    return _with(_with(code, one, _word(code, other)), other, _word(code, one))


def _moved(code: bytes, slots: list[int], start: int, end: int) -> bytes:
    """Move the instruction at one slot to another, and close up those between them."""
    words = [_word(code, slot) for slot in slots]
    words.insert(end, words.pop(start))
    for slot, word in zip(slots, words, strict=True):
        code = _with(code, slot, word)
    return code


KINDS: dict[str, Callable[[bytes, list[int]], Iterator[Changed]]] = {
    "near": _near,
    "twice": _twice,
    "barrier": _barriers,
    "nop and bit": _nop_and_bit,
}
