"""Writing a kernel out as a plain ELF file."""

import os
import struct
import tempfile
from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path

from kexec_verify.errors import UsageError
from kexec_verify.target.elf import EM_AARCH64, ET_EXEC, MAGIC, PT_LOAD, SHT_STRTAB, SHT_SYMTAB
from kexec_verify.target.kernel import Kernel
from kexec_verify.target.symbols import Symbol
from kexec_verify.target.word_arrays import align

_HEADER, _PROGRAM, _SECTION, _SYMBOL = 64, 56, 64, 24
_ALIGN = 0x1000
_SHT_PROGBITS = 1
_SHN_ABS = 0xFFF1
_ALLOC_WRITE_EXECUTE = 7
_READ_WRITE_EXECUTE = 7
_GLOBAL_NOTYPE, _GLOBAL_FUNC = 0x10, 0x12


def write_elf(kernel: Kernel, path: Path, symbols: Iterable[Symbol] | None = None) -> None:
    """Write *kernel* as an ELF64 ET_EXEC with a .symtab, which open_target reads back.

    :param path: the file to write; it is replaced as a whole or not at all.
    :param symbols: what .symtab holds; by default every symbol of the kernel.
    """
    segments = kernel.segments
    names = ["", *(f".kernel.{row}" for row in range(len(segments)))]
    names += [".symtab", ".strtab", ".shstrtab"]
    section_names = b"".join(name.encode() + b"\0" for name in names)
    table, strings = _symbol_table(kernel, kernel.symbols if symbols is None else symbols)

    at = _HEADER + _PROGRAM * len(segments)
    blobs: list[tuple[int, bytes]] = []
    programs: list[bytes] = []
    sections = [bytes(_SECTION)]
    name_at = 1
    for segment in segments:
        # A loader maps pages: file offset and address agree below the page.
        at = align(at, _ALIGN) + segment.address % _ALIGN
        size = len(segment.data)
        programs.append(
            struct.pack(
                "<IIQQQQQQ",
                PT_LOAD,
                _READ_WRITE_EXECUTE,
                at,
                segment.address,
                segment.address,
                size,
                size,
                _ALIGN,
            )
        )
        sections.append(_section(name_at, _SHT_PROGBITS, _ALLOC_WRITE_EXECUTE, segment.address, at, size))
        name_at += len(names[len(sections) - 1]) + 1
        blobs.append((at, segment.data))
        at += size
    last = len(sections)
    for kind, blob, link, info, entry in (
        (SHT_SYMTAB, table, last + 1, 1, _SYMBOL),
        (SHT_STRTAB, strings, 0, 0, 0),
        (SHT_STRTAB, section_names, 0, 0, 0),
    ):
        at = align(at, 8)
        sections.append(_section(name_at, kind, 0, 0, at, len(blob), link, info, entry))
        name_at += len(names[len(sections) - 1]) + 1
        blobs.append((at, blob))
        at += len(blob)
    at = align(at, 8)
    header = struct.pack(
        "<4sBBBB8xHHIQQQIHHHHHH",
        MAGIC,
        2,
        1,
        1,
        0,
        ET_EXEC,
        EM_AARCH64,
        1,
        segments[0].address,
        _HEADER,
        at,
        0,
        _HEADER,
        _PROGRAM,
        len(segments),
        _SECTION,
        len(sections),
        len(sections) - 1,
    )
    head = header + b"".join(programs)
    _store(path, [(0, head), *blobs, (at, b"".join(sections))])


def _section(
    name: int,
    kind: int,
    flags: int,
    address: int,
    offset: int,
    size: int,
    link: int = 0,
    info: int = 0,
    entry: int = 0,
) -> bytes:
    alignment = 8 if kind == SHT_SYMTAB else 1
    return struct.pack("<IIQQQQIIQQ", name, kind, flags, address, offset, size, link, info, alignment, entry)


def _symbol_table(kernel: Kernel, symbols: Iterable[Symbol]) -> tuple[bytes, bytes]:
    """Return .symtab and .strtab."""
    entries = [bytes(_SYMBOL)]
    strings = [b"\0"]
    at = 1
    pack = struct.Struct("<IBBHQQ").pack
    starts = [segment.address for segment in kernel.segments]
    for symbol in symbols:
        name = symbol.name.encode("latin-1", "replace") + b"\0"
        # .bss has no bytes in the file: its symbols go with the segment below.
        place = bisect_right(starts, symbol.address) or _SHN_ABS
        info = _GLOBAL_FUNC if symbol.size else _GLOBAL_NOTYPE
        entries.append(pack(at, info, 0, place, symbol.address, symbol.size or 0))
        strings.append(name)
        at += len(name)
    return b"".join(entries), b"".join(strings)


def _store(path: Path, blobs: list[tuple[int, bytes]]) -> None:
    path = path.resolve()  # what a symbolic link names is written, and the link stays
    if path.exists() and not path.is_file():
        raise UsageError(f"expected a file to write, found {path}, which is no regular file")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            for offset, blob in blobs:
                file.seek(offset)
                file.write(blob)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
