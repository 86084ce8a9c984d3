"""Where a kernel's relocation table starts and ends: by its symbols, and by the code that applies it.

Facts: arch/arm64/kernel/vmlinux.lds.S puts __rela_start and __rela_end, from 6.9 with the prefix
__pi_, around .rela.dyn. The loop that applies the entries is __relocate_kernel in
arch/arm64/kernel/head.S up to 6.8, relocate_kernel in arch/arm64/kernel/pi/relocate.c from 6.9.
Encodings: Arm ARM, C6.2.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from kexec_verify.errors import TargetError
from kexec_verify.target.relocations import ENTRY_SIZE
from kexec_verify.target.symbols import Symbol
from kexec_verify.target.word_arrays import U32, words

RELA = (("__rela_start", "__rela_end"), ("__pi_rela_start", "__pi_rela_end"))
RELR = (("__relr_start", "__relr_end"), ("__pi_relr_start", "__pi_relr_end"))
_MASK = (1 << 64) - 1
_HALF = 1 << 63
_BEFORE = 32  # instructions before the test of the type that may make the bounds
_AFTER = 96  # instructions behind it in which the same function may go on
_LOOP = 12  # instructions around it that may belong to the loop
_MAX_LOOKS = 1 << 20  # kernels have some thousand words alike, and ten tests
_MAX_TESTS = 1 << 12
_MAX_BESIDE = 6  # addresses that the function makes
_DISPLACEMENT = 23  # x23 holds it in head.S; it is 0 at the link address


@dataclass(frozen=True)
class Bounds:
    """A relocation table from *start* up to *end*, addresses.

    :param kimage_vaddr: KIMAGE_VADDR where the code adds offsets to it (up to 5.11), else None.
    :param beside: the addresses that the function with the loop over the table makes, from the loop on
        or before it; those of a RELR table, which a second loop is about, are among them.
    """

    start: int
    end: int
    kimage_vaddr: int | None = None
    beside: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return f"{self.start:#x} to {self.end:#x}"


def by_symbol(
    lookup: Callable[[str], Symbol | None], pairs: Iterable[tuple[str, str]] = RELA
) -> Iterator[Bounds]:
    """Yield the bounds that *pairs* of symbols, RELA or RELR, give."""
    for first, last in pairs:
        start, end = lookup(first), lookup(last)
        if start is not None and end is not None:
            yield Bounds(start.address, end.address)


def agreed(named: Iterable[Bounds], coded: Iterable[Bounds], source: str) -> Bounds | None:
    """Return the one table that symbols and code bound, or None where neither does.

    :raises TargetError: two of them disagree, or the table holds no whole number of entries.
    """
    by_name = {(b.start, b.end): b for b in named}
    by_use = {(b.start, b.end): b for b in coded}
    found = list((by_name | by_use).values())
    if len(found) > 1:
        texts = [f"{b} by symbol" for b in by_name.values()] + [f"{b} by code" for b in by_use.values()]
        raise TargetError(f"{source}: expected one relocation table, found {', '.join(texts)}")
    if not found:
        return None
    if found[0].end < found[0].start or (found[0].end - found[0].start) % ENTRY_SIZE:
        raise TargetError(f"{source}: expected {ENTRY_SIZE}-byte relocations, found a table from {found[0]}")
    return found[0]


def by_code(data: bytes, address: int, source: str) -> Iterator[Bounds]:
    """Yield the bounds that loops over Elf64_Rela entries in *data*, at *address*, start with.

    :raises TargetError: there is more that resembles such a loop than any kernel has.
    """
    for at in _type_tests(data, source):
        low = max(0, at - 4 * _BEFORE)
        code = _Code(data, low, words(U32, data[low : at + 4 * _AFTER]), address)
        found = code.bounds((at - low) // 4)
        if found is not None:
            yield found


def _type_tests(data: bytes, source: str) -> Iterator[int]:
    """Yield the offsets of ``cmp wN, #0x403`` and ``cmp xN, #0x403``."""
    looks = tests = 0
    for high in (b"\x10\x71", b"\x10\xf1"):
        at = data.find(high)
        while at >= 0:
            looks += 1
            if not (at - 2) % 4 and data[at - 2] & 0x1F == 0x1F and data[at - 1] & 0xFC == 0x0C:
                tests += 1
                yield at - 2
            if looks > _MAX_LOOKS or tests > _MAX_TESTS:
                raise TargetError(f"{source}: expected a kernel's code, found only tests of one number")
            at = data.find(high, at + 1)


class _Code:
    """Instructions around a test of a relocation's type.

    :param low: offset of the first in *data*, which is located at *address*.
    """

    def __init__(self, data: bytes, low: int, code: Iterable[int], address: int):
        self._data = data
        self._low = low
        self._code = list(code)
        self._address = address
        self._wide: set[int] = set()

    def bounds(self, test: int) -> Bounds | None:
        """Return the bounds of the loop whose test of the type is the instruction *test*, or None."""
        loaded = self._entry_load(test)
        if loaded is None:
            return None
        load, cursor, offset = loaded
        near = range(max(0, test - _LOOP), min(len(self._code), test + _LOOP))
        # A compiler may test once before the loop, and again at its end.
        compared = [(at, other) for at in near for one, other in _compared(self._code[at]) if one == cursor]
        strides = [at for at in near if _advances(self._code[at], cursor)]
        if len({limit for _, limit in compared}) != 1 or len(strides) != 1:
            return None
        compare, limit = compared[0]
        for at, known in self._constants(max(load, compare)):
            if at in (load, compare) and cursor in known:
                if limit not in known:
                    return None
                # A compiler may keep the cursor a few bytes into the entry, and then its limit, too.
                start, end = (known[register] + offset - 8 & _MASK for register in (cursor, limit))
                beside = frozenset((end, *known.values(), *self._formed(test)))
                if len(beside) > _MAX_BESIDE:
                    beside = frozenset()
                return Bounds(start, end, self._kimage_vaddr(start), beside)
        return None

    def _formed(self, test: int) -> set[int]:
        """Return the addresses that adr, or adrp and add, make in what may run after *test*."""
        pages: dict[int, int] = {}
        formed: set[int] = set()
        for at in self._reached(test):
            word = self._code[at]
            target, value = self._result(at, word, pages)
            if target is None or value is None:
                continue
            if word & 0x9F000000 == 0x90000000:  # adrp
                pages[target] = value
            elif word & 0x9F000000 == 0x10000000 or word & 0xFF800000 == 0x91000000:  # adr, add
                formed.add(value)
        return formed

    def _reached(self, first: int) -> list[int]:
        """Return the instructions that control may reach from *first*, calls returning, in order."""
        reached: set[int] = set()
        pending = [first]
        while pending:
            at = pending.pop()
            if at in reached or not 0 <= at < len(self._code):
                continue
            reached.add(at)
            ahead, stays = _branch(self._code[at])
            if ahead is not None:
                pending.append(at + ahead)
            if stays or self._code[at] & 0xFC000000 == 0x94000000:  # bl
                pending.append(at + 1)
        return sorted(reached)

    def _kimage_vaddr(self, start: int) -> int | None:
        bases = {wide for wide in self._wide if wide >= _HALF and wide <= start}
        return bases.pop() if len(bases) == 1 else None

    def _entry_load(self, test: int) -> tuple[int, int, int] | None:
        """Return which instruction loads the tested word, by which register, at what offset from it."""
        tested = self._code[test] >> 5 & 31
        for at in range(test - 1, max(-1, test - 5), -1):
            word = self._code[at]
            base = word >> 5 & 31
            if word & 31 == tested and word & 0xFFC00000 == 0xB9400000:  # ldr wT, [xN, #imm]
                return at, base, 4 * (word >> 10 & 0xFFF)
            if word & 31 == tested and word & 0xFFC00000 == 0xF9400000:  # ldr xT, [xN, #imm]
                return at, base, 8 * (word >> 10 & 0xFFF)
            if word & 31 == tested and word & 0xBFE00C00 == 0xB8400000:  # ldur wT or xT, [xN, #imm]
                return at, base, _signed(word >> 12, 9)
            if word >> 10 & 31 == tested and word & 0xFFC00000 == 0xA9400000:  # ldp xM, xT, [xN, #imm]
                return at, base, 8 * _signed(word >> 15, 7) + 8
            if word >> 10 & 31 == tested and word & 0xFFC00000 == 0xA8C00000:  # ldp xM, xT, [xN], #imm
                return at, base, 8
        return None

    def _constants(self, last: int) -> Iterator[tuple[int, dict[int, int]]]:
        """Yield each instruction up to *last* with the constants in registers before it.

        What is not known to leave a register alone makes it unknown; where paths meet only what they
        agree on is known. Branches back are those of the loop and tell nothing about its start.
        """
        state: dict[int, int] | None = {_DISPLACEMENT: 0}
        arriving: dict[int, list[dict[int, int]]] = {}
        for at, word in enumerate(self._code[: last + 1]):
            paths = arriving.get(at, []) + ([state] if state is not None else [])
            state = _meet(paths)
            if state is None:
                continue
            yield at, state
            ahead, stays = _branch(word)
            if ahead is not None and ahead > 0:
                arriving.setdefault(at + ahead, []).append(dict(state))
            if ahead is None and stays:
                state = self._step(at, word, dict(state))
            elif not stays:
                # What follows is a callee's return, another function, or what is jumped over.
                skipped = ahead is not None and 0 < ahead < len(self._code) - at
                state = None if skipped else {_DISPLACEMENT: 0}

    def _step(self, at: int, word: int, known: dict[int, int]) -> dict[int, int]:
        target, value = self._result(at, word, known)
        if target is None:
            # Whatever it is, it writes no other register than one of its fields names.
            for register in {word & 31, word >> 5 & 31, word >> 10 & 31, word >> 16 & 31}:
                known.pop(register, None)
        elif value is None:
            known.pop(target, None)
        else:
            known[target] = value & _MASK
        return known

    def _result(self, at: int, word: int, known: dict[int, int]) -> tuple[int | None, int | None]:
        """Return the register that *word* writes and the constant it gets, each where it is known."""
        target, source, wide = word & 31, word >> 5 & 31, word >> 21 & 3
        here = self._address + self._low + 4 * at
        if target == 31:
            return None, None
        if word & 0x9F000000 == 0x90000000:  # adrp
            pages = _signed((word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3, 21)
            return target, (here & ~0xFFF) + (pages << 12)
        if word & 0x9F000000 == 0x10000000:  # adr
            return target, here + _signed((word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3, 21)
        if word & 0xFF800000 == 0x91000000:  # add xD, xN, #imm
            immediate = (word >> 10 & 0xFFF) << 12 * (word >> 22 & 1)
            return target, known[source] + immediate if source in known else None
        if word & 0xFFE0FC00 == 0x8B000000:  # add xD, xN, xM
            other = word >> 16 & 31
            both = source in known and other in known
            return target, known[source] + known[other] if both else None
        if word & 0xFF800000 in (0xD2800000, 0x92800000):  # movz, movn
            value = (word >> 5 & 0xFFFF) << 16 * wide
            return target, self._note(value if word >> 30 & 1 else ~value & _MASK)
        if word & 0xFF800000 == 0xF2800000:  # movk
            if target not in known:
                return target, None
            kept = known[target] & ~(0xFFFF << 16 * wide)
            self._wide.discard(known[target])
            return target, self._note(kept | (word >> 5 & 0xFFFF) << 16 * wide)
        if word & 0xBF000000 == 0x18000000:  # ldr wD or xD, literal
            place = self._low + 4 * at + 4 * _signed(word >> 5, 19)
            size = 8 if word >> 30 & 1 else 4
            inside = 0 <= place <= len(self._data) - size
            return target, int.from_bytes(self._data[place : place + size], "little") if inside else None
        return None, None

    def _note(self, value: int) -> int:
        self._wide.add(value)
        return value


def _meet(paths: list[dict[int, int]]) -> dict[int, int] | None:
    if not paths:
        return None
    first, *others = paths
    return {r: value for r, value in first.items() if all(path.get(r) == value for path in others)}


def _compared(word: int) -> list[tuple[int, int]]:
    """Return the registers of ``cmp xN, xM`` in both orders, or nothing."""
    if word & 0xFFE0FC1F != 0xEB00001F:
        return []
    left, right = word >> 5 & 31, word >> 16 & 31
    return [(left, right), (right, left)]


def _advances(word: int, register: int) -> bool:
    """Return whether *word* moves *register* on by one entry."""
    ldp_post = word & 0xFFC00000 == 0xA8C00000 and _signed(word >> 15, 7) * 8 == ENTRY_SIZE
    added = 0x91000000 | ENTRY_SIZE << 10 | register << 5 | register
    return word == added or (ldp_post and word >> 5 & 31 == register)


def _branch(word: int) -> tuple[int | None, bool]:
    """Return how many instructions ahead *word* branches, if it does, and whether it may fall through."""
    if word & 0xFC000000 == 0x14000000:  # b
        return _signed(word, 26), False
    if word & 0xFE000000 == 0xD6000000 or word & 0xFC000000 == 0x94000000:  # br, blr, ret; bl
        return None, False
    if word & 0xFF000010 == 0x54000000 or word & 0x7E000000 == 0x34000000:  # b.cond; cbz, cbnz
        return _signed(word >> 5, 19), True
    if word & 0x7E000000 == 0x36000000:  # tbz, tbnz
        return _signed(word >> 5, 14), True
    return None, True


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (value >> bits - 1 << bits)
