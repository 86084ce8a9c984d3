"""ELF files of arm64 kernels: vmlinux, or a small ELF that holds the routine.

Facts: the ELF64 format (elf(5), include/uapi/linux/elf.h).
"""

import hashlib
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from kexec_verify.errors import TargetError
from kexec_verify.target.header import is_image, parse_header
from kexec_verify.target.image import kallsyms_symbols
from kexec_verify.target.kallsyms import find_kallsyms
from kexec_verify.target.kernel import Kernel, Segment, banner_version, note_build_id
from kexec_verify.target.rela_bounds import Bounds, agreed, by_code, by_symbol
from kexec_verify.target.relocations import (
    NO_RELOCATIONS,
    Relocations,
    apply,
    check_apart,
    parse_rela,
    resembles_rela,
)
from kexec_verify.target.symbols import NO_SYMBOLS, SymbolTable
from kexec_verify.target.word_arrays import U16, U32, U64, words

MAGIC = b"\x7fELF"
EM_AARCH64 = 183
ET_EXEC = 2
_TYPES = {1: "ET_REL", ET_EXEC: "ET_EXEC", 3: "ET_DYN", 4: "ET_CORE"}
_MACHINES = {3: "x86", 8: "MIPS", 21: "PowerPC", 22: "S390", 40: "ARM", 62: "x86-64", 243: "RISC-V"}
PT_LOAD, PT_NOTE = 1, 4
SHT_SYMTAB, SHT_STRTAB, SHT_RELA = 2, 3, 4
_SHF_ALLOC = 2
_SHN_UNDEF, _SHN_ABS = 0, 0xFFF1
_STT_SECTION, _STT_FILE = 3, 4
_FEWEST_KALLSYMS = 1 << 16  # bytes; below it no kernel is worth the search
_MOST_SYMBOLS = 1 << 21  # a vmlinux with everything built in has some 500,000
_MOST_NAMES = 1 << 26  # bytes
_MOST_COPIES = 64  # places of one name in a string table; linkers keep each name once
_MOST_PROGRAMS = 256  # program headers; vmlinux has fewer than ten


@dataclass(frozen=True)
class _Section:
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int


@dataclass(frozen=True)
class _Load:
    """A PT_LOAD entry: *size* bytes at *offset* of the file, *room* bytes of memory."""

    address: int
    physical: int
    offset: int
    size: int
    room: int


class _StringNames:
    """Names in a string table, found by offset; linkers let names share their ends."""

    def __init__(self, strings: bytes, offsets: array[int], live: bytes):
        self._strings = strings
        self._offsets = offsets
        self._live = live

    def name(self, row: int) -> str:
        """Return the name that *row* holds."""
        start = self._offsets[row]
        end = self._strings.find(b"\0", start)
        return self._strings[start : end if end >= 0 else None].decode("latin-1")

    def rows(self, name: str) -> Sequence[int]:
        """Return the rows that hold *name*, lowest first."""
        try:
            wanted = name.encode("latin-1") + b"\0"
        except UnicodeEncodeError:
            return ()
        found: list[int] = []
        at = self._strings.find(wanted)
        places: set[int] = set()
        while at >= 0:
            places.add(at)
            if len(places) > _MOST_COPIES:
                raise TargetError(f"expected the name {name} once in the string table, found it everywhere")
            row = -1
            try:
                while True:
                    row = self._offsets.index(at, row + 1)
                    if self._live[row]:
                        found.append(row)
            except ValueError:
                at = self._strings.find(wanted, at + 1)
        return sorted(found)


def load_elf(data: bytes, source: str, name: str) -> Kernel:
    """Return the kernel in the ELF file *data*.

    :param source: the target as the user typed it, for messages.
    :param name: the kernel's short name.
    :raises TargetError: not a little-endian AArch64 executable, truncated, or inconsistent.
    """
    _check_header(data, source)
    sections = _sections(data, source)
    loads, notes = _segments(data, source)
    symbols = _symbols(data, sections, source)
    coded = [bounds for load in loads for bounds in by_code(load.data, load.address, source)]
    bounds = agreed(by_symbol(symbols.lookup), coded, source)
    relocations = _relocations(loads, sections, bounds, source)
    loaded = tuple(Segment(s.address, apply(s.data, s.address, relocations, source)) for s in loads)
    if not len(symbols):
        symbols = _kallsyms(loaded, source)
        agreed(by_symbol(symbols.lookup), coded, source)
    head = loads[0].data[:64]
    return Kernel(
        name=name,
        source=source,
        format="elf",
        sha256=hashlib.sha256(data).hexdigest(),
        build_id=next(filter(None, map(note_build_id, (*notes, *(s.data for s in loads)))), None),
        version=next(filter(None, (banner_version(s.data) for s in loads)), None),
        page_size=parse_header(head, source).page_size if is_image(head) else None,
        segments=loaded,
        symbols=symbols,
    )


def _check_header(data: bytes, source: str) -> None:
    if len(data) < 64:
        raise TargetError(f"{source}: expected a 64-byte ELF header, found {len(data)} bytes")
    if data[4] != 2:
        raise TargetError(f"{source}: expected a 64-bit ELF, found class {data[4]}")
    if data[5] != 1:
        raise TargetError(f"{source}: expected a little-endian ELF, found data encoding {data[5]}")
    kind, machine = struct.unpack_from("<HH", data, 16)
    if machine != EM_AARCH64:
        found = _MACHINES.get(machine, f"machine {machine}")
        raise TargetError(f"{source}: expected an AArch64 ELF, found {found}")
    if kind not in (ET_EXEC, 3):
        found = _TYPES.get(kind, f"type {kind}")
        raise TargetError(f"{source}: expected an executable ELF (vmlinux), found {found}")


def _slice(data: bytes, offset: int, size: int, what: str, source: str) -> bytes:
    if offset + size > len(data):
        raise TargetError(f"{source}: expected {what} up to byte {offset + size}, found {len(data)} bytes")
    return data[offset : offset + size]


def _segments(data: bytes, source: str) -> tuple[list[Segment], list[bytes]]:
    """Return the loadable segments by address, and the contents of the note segments."""
    (at,) = struct.unpack_from("<Q", data, 32)
    entry_size, count = struct.unpack_from("<HH", data, 54)
    if count and entry_size != 56:
        raise TargetError(f"{source}: expected 56-byte program headers, found {entry_size}")
    if count > _MOST_PROGRAMS:
        raise TargetError(f"{source}: expected at most {_MOST_PROGRAMS} program headers, found {count}")
    table = _slice(data, at, 56 * count, "program headers", source)
    loads: list[_Load] = []
    notes: list[bytes] = []
    for row in range(count):
        kind, _, offset, address, physical, size, room = struct.unpack_from("<IIQQQQQ", table, 56 * row)
        if kind == PT_LOAD and room:
            loads.append(_Load(address, physical, offset, size, room))
        elif kind == PT_NOTE:
            notes.append(_slice(data, offset, size, "notes", source))
    loads.sort(key=lambda load: load.address)
    _check_loads(loads, source)
    segments = [
        Segment(load.address, _slice(data, load.offset, load.size, "a segment", source))
        for load in loads
        if load.size
    ]
    if not segments:
        raise TargetError(f"{source}: expected a PT_LOAD segment with bytes, found none")
    return segments, notes


def _check_loads(loads: list[_Load], source: str) -> None:
    """Refuse segments, sorted by address, that cannot all be in memory.

    :raises TargetError: two overlap in memory or in the file, or are not as far apart in physical as
        in virtual memory: the Image, and so the kernel that runs, is laid out by physical addresses.
    """
    for load in loads:
        if load.size > load.room:
            raise TargetError(
                f"{source}: expected segments as large in memory as in the file, "
                f"found {load.size} bytes for {load.room} at {load.address:#x}"
            )
        if max(load.address, load.physical) + load.room > 1 << 64:
            raise TargetError(f"{source}: expected segments below 2^64, found one at {load.address:#x}")
    for low, high in pairwise(loads):
        if low.address + low.room > high.address:
            raise TargetError(f"{source}: expected separate segments, found an overlap at {high.address:#x}")
        if high.physical - low.physical != high.address - low.address:
            raise TargetError(
                f"{source}: expected segments as far apart in physical as in virtual memory, "
                f"found {low.address:#x} at {low.physical:#x} and {high.address:#x} at {high.physical:#x}"
            )
    in_file = sorted((load.offset, load.size) for load in loads if load.size)
    for (offset, size), (following, _) in pairwise(in_file):
        if offset + size > following:
            raise TargetError(
                f"{source}: expected segments apart in the file, found two that share byte {following}"
            )


def _sections(data: bytes, source: str) -> list[_Section]:
    (at,) = struct.unpack_from("<Q", data, 40)
    entry_size, count = struct.unpack_from("<HH", data, 58)
    if not at or not count:
        return []
    if entry_size != 64:
        raise TargetError(f"{source}: expected 64-byte section headers, found {entry_size}")
    table = _slice(data, at, 64 * count, "section headers", source)
    sections = []
    for row in range(count):
        _, kind, flags, address, offset, size, link = struct.unpack_from("<IIQQQQI", table, 64 * row)
        sections.append(_Section(kind, flags, address, offset, size, link))
    return sections


def _relocations(
    loads: list[Segment], sections: list[_Section], bounds: Bounds | None, source: str
) -> Relocations:
    """Return what the kernel's boot code relocates: the table that has *bounds*.

    The section table, which no boot code reads, must name no other.

    :raises TargetError: a section disagrees, only a section says where the table is, or nothing does.
    """
    for section in sections:
        if section.type == SHT_RELA and section.flags & _SHF_ALLOC and section.size:
            named = Bounds(section.address, section.address + section.size)
            if bounds is None or (bounds.start, bounds.end) != (named.start, named.end):
                found = bounds or "no symbols and no code that bound it"
                raise TargetError(
                    f"{source}: expected relocations from {named}, as a section says, found {found}"
                )
    if bounds is None:
        if any(resembles_rela(load.data) for load in loads):
            raise TargetError(
                f"{source}: expected symbols or code that bound the kernel's relocations, found neither"
            )
        return NO_RELOCATIONS
    if bounds.start == bounds.end:
        return NO_RELOCATIONS
    for load in loads:
        if load.address <= bounds.start and bounds.end <= load.end:
            relocations = parse_rela(load.data[bounds.start - load.address : bounds.end - load.address])
            check_apart(relocations, bounds.start, bounds.end, "their own table", source)
            return relocations
    raise TargetError(f"{source}: expected relocations in one segment, found a table from {bounds}")


def _symbols(data: bytes, sections: list[_Section], source: str) -> SymbolTable:
    """Return .symtab without undefined, section and file symbols; empty when there is none."""
    table = next((s for s in sections if s.type == SHT_SYMTAB), None)
    if table is None:
        return NO_SYMBOLS
    if table.link >= len(sections) or sections[table.link].type != SHT_STRTAB:
        raise TargetError(f"{source}: expected .symtab linked to a string table, found none")
    linked = sections[table.link]
    if table.size > 24 * _MOST_SYMBOLS or linked.size > _MOST_NAMES:
        raise TargetError(
            f"{source}: expected at most {_MOST_SYMBOLS} symbols with {_MOST_NAMES} bytes of names, "
            f"found {table.size // 24} with {linked.size}"
        )
    strings = _slice(data, linked.offset, linked.size, "symbol names", source)
    entries = _slice(data, table.offset, table.size - table.size % 24, "symbols", source)
    offsets = words(U32, entries)[0::6]
    info = entries[4::24]
    places = words(U16, entries)[3::12]
    columns = words(U64, entries)
    live = bytearray(b"\1") * len(offsets)
    hidden: set[int] = set()
    for row, place in enumerate(places):
        if place == _SHN_UNDEF or info[row] & 0xF in (_STT_SECTION, _STT_FILE):
            live[row] = 0
            hidden.add(row)
        elif place == _SHN_ABS or strings[offsets[row] : offsets[row] + 1] in (b"$", b""):
            hidden.add(row)
    return SymbolTable(
        _StringNames(strings, offsets, bytes(live)),
        columns[1::3],
        columns[2::3],
        frozenset(hidden),
        bytes(byte >> 4 for byte in info),
    )


def _kallsyms(segments: tuple[Segment, ...], source: str) -> SymbolTable:
    """Return the symbols that a stripped vmlinux still carries in its data."""
    for segment in segments:
        if len(segment.data) < _FEWEST_KALLSYMS:
            continue
        tables = find_kallsyms(segment.data)
        if tables is not None:
            base = segment.address if tables.base_at is None else tables.base_value
            if base:  # not filled in: a relocation that only the boot code would find
                return kallsyms_symbols(tables, base, source)
    return NO_SYMBOLS
