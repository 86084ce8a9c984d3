"""The symbol tables that a kernel carries in its own .rodata, recovered from the bytes.

Facts: scripts/kallsyms.c writes the tables, kernel/kallsyms.c reads them. Three orders exist:

* up to 6.3: offsets, relative_base, num_syms, names, markers, [seqs_of_names,] token_table,
  token_index;
* from 6.4: num_syms, names, markers, token_table, token_index, offsets, relative_base,
  seqs_of_names;
* from 7.0: the same without relative_base; each offset is relative to its own place.

Each table starts at a multiple of 8 bytes, from 7.0 at a multiple of 4: kallsyms_names starts that
far behind kallsyms_num_syms, whatever the address of the latter is.

Nothing but the tables' own consistency says where they are, so every candidate is checked in full:
token_index against token_table, every marker against the names, the end of the names against the
start of the markers, the order of the offsets, and seqs_of_names where nothing else says where the
offsets end.
"""

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kexec_verify.target.word_arrays import U16, U32, align, words

KERNEL_HALF = 1 << 63  # kernel addresses have bit 63 set (Documentation/arch/arm64/memory.rst)
_DIGITS = b"".join(bytes((digit, 0)) for digit in b"0123456789")
_MAX_DIGIT_HITS = 64
_MAX_TOKEN_TABLES = 4
_MAX_SYMBOLS = 1 << 22
_MAX_NAME = 1024  # KSYM_NAME_LEN is 512, type character excluded
_PER_MARKER = 256
_MIN_PER_MARKER = 2 * _PER_MARKER
_MAX_PER_MARKER = 514 * _PER_MARKER
_MAX_MARKER_TRIES = 32
_MAX_BLOCKS = 1 << 13  # of _PER_MARKER names each, decoded in all tries together
_ALIGNMENTS = (8, 4)  # of the tables, in bytes
_SEQ = 3  # bytes of an entry of seqs_of_names
# seqs_of_names may be between markers and token_table: at most four bytes a symbol.
_SEARCH_WINDOWS = (1 << 16, 1 << 19, 1 << 22)


@dataclass(frozen=True)
class Kallsyms:
    """Recovered tables.

    :param names: symbol names, in the order of the table (by address).
    :param kinds: the type letter of each, as nm(1) prints it.
    :param offsets: of each symbol, from relative_base; when *base_at* is None, from the first byte
        of the searched data.
    :param base_at: where in the data the word kallsyms_relative_base is, or None.
    :param base_value: that word as stored; 0 where a relocation is still to fill it in.
    """

    names: Sequence[str]
    kinds: bytes
    offsets: array[int]
    base_at: int | None
    base_value: int


@dataclass(frozen=True)
class _Tokens:
    start: int  # of kallsyms_token_table
    end: int  # of kallsyms_token_index
    text: tuple[str, ...]


@dataclass(frozen=True)
class _Names:
    start: int  # of kallsyms_num_syms
    alignment: int  # of each table
    names: list[str]
    kinds: bytes


class _Budget:
    """How many blocks of names may still be decoded: false tables could ask for ever more."""

    def __init__(self, blocks: int):
        self.left = blocks

    def spend(self) -> bool:
        """Take one block; return whether there was one."""
        self.left -= 1
        return self.left >= 0


def find_kallsyms(data: bytes) -> Kallsyms | None:
    """Return the tables in *data*, or None when there are none that are consistent."""
    budget = _Budget(_MAX_BLOCKS)
    for tokens in _token_tables(data):
        for names in _name_tables(data, tokens, budget):
            found = _with_offsets(data, tokens, names)
            if found is not None:
                return found
    return None


def _token_tables(data: bytes) -> Iterator[_Tokens]:
    """Yield the token tables: characters in use stand for themselves, so the digits do."""
    at = -1
    found = 0
    for _ in range(_MAX_DIGIT_HITS):
        at = data.find(_DIGITS, at + 1)
        if at < 0 or found == _MAX_TOKEN_TABLES:
            return
        tail = data[at : at + 0x10000].split(b"\0", 256 - ord("0"))
        if len(tail) <= 256 - ord("0"):
            continue
        end = at + sum(len(token) + 1 for token in tail[:-1])
        # The tables are aligned by pointers; some old ones by four bytes.
        for index_at in {align(end, 8), align(end, 4)}:
            index = words(U16, data[index_at : index_at + 512])
            if len(index) < 256 or index[0] != 0:
                continue
            start = at - index[ord("0")]
            if start < 0 or end - start > 0x10000:
                continue
            text = data[start:end].split(b"\0")[:-1]
            if len(text) == 256 and _starts(text) == list(index):
                found += 1
                yield _Tokens(start, index_at + 512, tuple(t.decode("latin-1") for t in text))
                break


def _starts(tokens: list[bytes]) -> list[int]:
    starts, at = [], 0
    for token in tokens:
        starts.append(at)
        at += len(token) + 1
    return starts


def _name_tables(data: bytes, tokens: _Tokens, budget: _Budget) -> Iterator[_Names]:
    """Yield num_syms and names as the markers before *tokens* confirm them."""
    tries = 0
    seen: set[int] = set()
    for window in _SEARCH_WINDOWS:
        low = max(0, align(tokens.start - window, 8))
        block = words(U32, data[low : tokens.start])
        runs = [run for run in _marker_runs(block) if low + 4 * run[0] not in seen]
        # The markers of a kernel are the longest such run by far.
        for first, last in sorted(runs, key=lambda run: run[0] - run[1])[:_MAX_MARKER_TRIES]:
            seen.add(low + 4 * first)
            # What follows the markers may look like one more of them.
            for end in range(last, max(first, last - 2), -1):
                tries += 1
                if tries > 4 * _MAX_MARKER_TRIES:
                    return
                yield from _names_before(data, low + 4 * first, block[first:end], tokens.text, budget)


def _marker_runs(block: array[int]) -> Iterator[tuple[int, int]]:
    """Yield the runs (first, end) of words that start at 0 and grow as markers do."""
    at = -1
    count = len(block)
    while True:
        try:
            at = block.index(0, at + 1)
        except ValueError:
            return
        end = at + 1
        while end < count and _MIN_PER_MARKER <= block[end] - block[end - 1] <= _MAX_PER_MARKER:
            end += 1
        if end > at + 1 or end == count or (end == count - 1 and block[end] == 0):
            yield at, end


def _names_before(
    data: bytes, markers_at: int, markers: array[int], tokens: tuple[str, ...], budget: _Budget
) -> Iterator[_Names]:
    """Yield the names that end where *markers* start and agree with each of them."""
    last = markers[-1]
    high = markers_at - last - min(_ALIGNMENTS)
    low = max(0, align(high - _MAX_PER_MARKER, 8))
    fewest = _PER_MARKER * (len(markers) - 1)
    for row, count in enumerate(words(U32, data[low : max(low, high) + 4])):
        if not fewest < count <= min(fewest + _PER_MARKER, _MAX_SYMBOLS):
            continue
        start = low + 4 * row
        for alignment in _ALIGNMENTS:
            names_at = start + alignment
            # kallsyms_num_syms is a .long, padded with zeros to the next label's alignment.
            if start % alignment or names_at + last > markers_at or any(data[start + 4 : names_at]):
                continue
            if not budget.spend():
                return
            found = _decode(data[names_at:markers_at], count, markers, tokens, budget)
            if found is not None and markers_at == align(names_at + found.size, alignment):
                yield _Names(start, alignment, found.names, found.kinds)


@dataclass(frozen=True)
class _Decoded:
    names: list[str]
    kinds: bytes
    size: int  # of the compressed names, in bytes


def _decode(
    names: bytes, count: int, markers: array[int], tokens: tuple[str, ...], budget: _Budget
) -> _Decoded | None:
    """Expand *count* compressed names that must fill *names* up to zeros, or return None."""
    found: list[str] = []
    kinds = bytearray()
    at, end = 0, len(names)
    token = tokens.__getitem__
    for row in range(count):
        if not row % _PER_MARKER and (at != markers[row // _PER_MARKER] or not budget.spend()):
            return None
        if at + 2 > end:
            return None
        length = names[at]
        at += 1
        if length & 0x80:  # two bytes, ULEB128, for a symbol of more than 127 codes
            length = length & 0x7F | names[at] << 7
            at += 1
        stop = at + length
        if not length or stop > end:
            return None
        text = "".join(map(token, names[at:stop]))
        if not 1 < len(text) <= _MAX_NAME:
            return None
        kinds.append(ord(text[0]) & 0x7F)
        found.append(text[1:])
        at = stop
    if end - at >= max(_ALIGNMENTS) or any(names[at:]):
        return None
    return _Decoded(found, bytes(kinds), at)


def _with_offsets(data: bytes, tokens: _Tokens, names: _Names) -> Kallsyms | None:
    count = len(names.names)
    # From 6.4 the offsets follow the token index.
    at = align(tokens.end, names.alignment)
    after = words(U32, data[at : at + 4 * count])
    base_at = align(at + 4 * count, 8)
    found = _relative(data, names, after, base_at)
    if found is not None:
        return found
    placed = [at + 4 * row + (off - ((off & 1 << 31) << 1)) for row, off in enumerate(after)]
    # The first symbols are code, which is located before the tables: never mistake zeros for offsets.
    if (
        _ascending(placed, count)
        and 0 <= placed[0] < at
        and after[0] >> 31
        and placed[-1] < 1 << 31
        and _has_seqs(data, align(at + 4 * count, names.alignment), count)
    ):
        return Kallsyms(names.names, names.kinds, array(U32, placed), None, 0)
    # Up to 6.3 they come first, and relative_base is right before num_syms.
    base_at = names.start - 8
    at = base_at - align(4 * count, 8)
    if at >= 0:
        return _relative(data, names, words(U32, data[at : at + 4 * count]), base_at)
    return None


def _relative(data: bytes, names: _Names, offsets: array[int], base_at: int) -> Kallsyms | None:
    """Return the tables if *offsets* count from the first symbol and a base of the kernel's follows."""
    if not _ascending(offsets, len(names.names)) or offsets[0] or offsets[-1] >> 31:
        return None
    if base_at + 8 > len(data):
        return None
    (base,) = struct.unpack_from("<Q", data, base_at)
    if base and base < KERNEL_HALF:
        return None
    return Kallsyms(names.names, names.kinds, offsets, base_at, base)


def _ascending(offsets: Sequence[int], count: int) -> bool:
    """Return whether *offsets* are *count* numbers in the order of addresses, not all the same."""
    return len(offsets) == count and offsets[0] < offsets[-1] and all(map(int.__le__, offsets, offsets[1:]))


def _has_seqs(data: bytes, at: int, count: int) -> bool:
    """Return whether seqs_of_names, which has each of *count* rows once, is located at *at*."""
    table = data[at : at + _SEQ * count]
    if len(table) != _SEQ * count:
        return False
    rows = {
        high << 16 | mid << 8 | low
        for high, mid, low in zip(*(table[n::_SEQ] for n in range(_SEQ)), strict=True)
    }
    return len(rows) == count and max(rows) == count - 1
