"""One compiled arm64 kernel: its bytes at their virtual addresses, and its symbols."""

import hashlib
import re
import struct
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from kexec_verify.errors import TargetError
from kexec_verify.target.symbols import NO_SYMBOLS, Symbol, SymbolTable

if TYPE_CHECKING:
    from kexec_verify.target.patching import Patching

_BANNER = b"Linux version "
_PAGE = 4096
_VDSO_PAGES = 16
# A GNU build-id note (ELF gABI note header, name "GNU", type 3) with the 20 bytes of a SHA-1.
_BUILD_ID = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0"


_REACH = 1 << 16
"""Bytes that a symbol is taken to reach at most: no function is as long."""


@dataclass(frozen=True)
class Segment:
    """Bytes of the file that are located at *address*, a virtual address."""

    address: int
    data: bytes

    @property
    def end(self) -> int:
        """The first address after the segment."""
        return self.address + len(self.data)


@dataclass(frozen=True)
class Kernel:
    """One arm64 kernel, or a small ELF that holds the routine.

    :param name: short and safe in a path, such as ``linux-image-6.1.0-56-arm64``.
    :param source: the target as the user typed it.
    :param format: ``elf`` or ``image``.
    :param sha256: of the file as it is, compressed or not; of a patched copy, of its history.
    :param build_id: the linker's build-id in hex, or None.
    :param version: first word after ``Linux version`` in the banner, or None.
    :param page_size: in bytes, from the Image header's flags
        (Documentation/arch/arm64/booting.rst), or None without such a header.
    :param segments: bytes by address, ascending, not overlapping; memory without bytes in the
        file (.bss) is not mapped.
    :param patching: what boot may patch of them; None if the tables of that were not read.
    """

    name: str
    source: str
    format: str
    sha256: str
    build_id: str | None
    version: str | None
    page_size: int | None
    segments: tuple[Segment, ...] = field(repr=False)
    symbols: SymbolTable = field(default=NO_SYMBOLS, repr=False, compare=False)
    patching: "Patching | None" = field(default=None, repr=False, compare=False)

    @cached_property
    def _starts(self) -> list[int]:
        return [segment.address for segment in self.segments]

    def mapped(self, address: int, size: int = 1) -> bool:
        """Return whether the file has *size* bytes at *address*."""
        try:
            self.read(address, size)
        except TargetError:
            return False
        return True

    def read(self, address: int, size: int) -> bytes:
        """Return *size* bytes at the virtual *address*.

        :raises TargetError: some of them are not in the file.
        """
        pieces: list[bytes] = []
        at, left = address, size
        while left > 0:
            index = bisect_right(self._starts, at) - 1
            segment = self.segments[index] if index >= 0 else None
            if segment is None or at >= segment.end:
                raise TargetError(
                    f"{self.source}: expected {size} bytes at {address:#x}, found none at {at:#x}"
                )
            offset = at - segment.address
            piece = segment.data[offset : offset + left]
            pieces.append(piece)
            at += len(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def symbol(self, name: str) -> Symbol | None:
        """Return the symbol *name*, sized up to the next one where the table has no size."""
        return self.symbols.lookup(name)

    def has_code(self, name: str) -> bool:
        """Return whether there is a symbol *name* and the file has bytes at its address."""
        symbol = self.symbol(name)
        return symbol is not None and self.mapped(symbol.address, 4)

    def symbols_at(self, address: int) -> list[str]:
        """Return the names of exactly *address*, sorted."""
        return self.symbols.at(address)

    def symbol_before(self, address: int) -> Symbol | None:
        """Return the nearest symbol at or below *address*: the function that contains it."""
        return self.symbols.before(address)

    def where(self, address: int) -> str:
        """Return *address* as the kernel prints it, ``symbol+offset/size``; in hex with no symbol near."""
        symbol = self.symbol_before(address)
        # A table without data symbols would give the last function's name to all data.
        reach = min(_REACH, _REACH if symbol is None or symbol.size is None else symbol.size)
        if symbol is None or address >= symbol.address + reach:
            return f"{address:#x}"
        size = "" if symbol.size is None else f"/{symbol.size:#x}"
        return f"{symbol.name}+{address - symbol.address:#x}{size}"

    def called(self, address: int) -> str:
        """Return what is called by a call to *address*: the function's name alone where it is its start."""
        symbol = self.symbol_before(address)
        return symbol.name if symbol is not None and symbol.address == address else self.where(address)

    def patched(self, address: int, data: bytes) -> "Kernel":
        """Return a copy of the kernel with *data* at *address*.

        :raises TargetError: some of the bytes to replace are not in the file.
        """
        self.read(address, len(data))
        segments = []
        for segment in self.segments:
            low = max(address, segment.address)
            high = min(address + len(data), segment.end)
            if low < high:
                before = segment.data[: low - segment.address]
                after = segment.data[high - segment.address :]
                new = b"".join((before, data[low - address : high - address], after))
                segments.append(Segment(segment.address, new))
            else:
                segments.append(segment)
        # Two patched copies must never share the hash that caches and reports go by.
        history = f"{self.sha256} {address:#x} {data.hex()}"
        digest = hashlib.sha256(history.encode()).hexdigest()
        return replace(self, segments=tuple(segments), sha256=digest)

    def moved(self, distance: int) -> "Kernel":
        """Return the same bytes and symbols *distance* bytes higher, modulo ``2**64``.

        No address in the bytes is changed: code that computes addresses relative to itself fits, tables of
        absolute addresses do not. Patch sites have absolute addresses, so the copy has none.
        """
        segments = tuple(Segment((s.address + distance) % (1 << 64), s.data) for s in self.segments)
        return replace(self, segments=segments, symbols=self.symbols.moved(distance), patching=None)


def banner_version(data: bytes) -> str | None:
    """Return the first word after ``Linux version`` in *data* (init/version.c), or None."""
    at = data.find(_BANNER)
    while at >= 0:
        word = data[at + len(_BANNER) : at + len(_BANNER) + 96]
        match = re.match(rb"[0-9][0-9A-Za-z.+~_-]*(?= )", word)
        if match:
            return match.group().decode("ascii")
        at = data.find(_BANNER, at + 1)
    return None


def note_build_id(data: bytes) -> str | None:
    """Return the GNU build-id noted in *data*, in hex, or None.

    The vDSOs, whole ELF files on pages of their own, have notes too: those do not count
    (arch/arm64/kernel/vdso-wrap.S).
    """
    at = data.find(_BUILD_ID)
    while at >= 0:
        start = at + len(_BUILD_ID)
        if at % 4 == 0 and start + 20 <= len(data) and not _in_embedded_elf(data, at):
            return data[start : start + 20].hex()
        at = data.find(_BUILD_ID, at + 1)
    return None


def _in_embedded_elf(data: bytes, at: int) -> bool:
    page = at - at % _PAGE
    for start in range(page, max(-1, page - _VDSO_PAGES * _PAGE), -_PAGE):
        header = data[start : start + 64]
        if header[:4] == b"\x7fELF" and len(header) == 64:
            # Its section headers end it: 64-bit for the vDSO, 32-bit for the compat one.
            if header[4] == 2:
                (table,) = struct.unpack_from("<Q", header, 40)
                entry, count = struct.unpack_from("<HH", header, 58)
            else:
                (table,) = struct.unpack_from("<I", header, 32)
                entry, count = struct.unpack_from("<HH", header, 46)
            return at < start + int(table) + int(entry) * int(count)
    return False
