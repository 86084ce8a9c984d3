"""Source lines of addresses, from the DWARF of an ELF that has it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.dwarf.dwarfinfo import DWARFInfo
from elftools.elf.elffile import ELFFile


def source_line(path: Path, address: int) -> str | None:
    """Return ``file:line`` of the instruction at ``address`` in the ELF at ``path``, or None if unknown."""
    return source_lines(path, [address]).get(address)


def source_lines(path: Path, addresses: Iterable[int]) -> dict[int, str]:
    """Return ``file:line`` of each of the ``addresses`` for which the ELF at ``path`` has it.

    Source: DWARF 5, 6.1.2 (address ranges) and 6.2 (line numbers).
    """
    try:
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            return dict(_lines(elf.get_dwarf_info(), set(addresses))) if elf.has_dwarf_info() else {}
    except (OSError, ELFError, ValueError, KeyError, IndexError):
        return {}  # without a source line the address is shown alone


def _lines(dwarf: DWARFInfo, addresses: Collection[int]) -> Iterator[tuple[int, str]]:
    ranges = dwarf.get_aranges()
    units: dict[int, list[int]] = {}
    for address in sorted(addresses):
        offset = ranges.cu_offset_at_addr(address) if ranges is not None else None
        if offset is not None:
            units.setdefault(offset, []).append(address)
    for offset, wanted in units.items():
        program = dwarf.line_program_for_CU(dwarf.get_CU_at(offset))
        before = None
        for entry in program.get_entries() if program is not None else ():
            state = entry.state
            if state is None:
                continue
            if before is not None:
                for address in wanted:
                    if before.address <= address < state.address:
                        yield address, f"{_file(program, before.file)}:{before.line}"
            before = None if state.end_sequence else state


def _file(program: object, index: int) -> str:
    """Return the file's path as the compiler was given it: relative to where it ran, for a kernel its
    tree.
    """
    header = program.header  # type: ignore[attr-defined]
    files, folders = header["file_entry"], header["include_directory"]
    # Files are counted from 0 in DWARF 5 and from 1 before; folder 0 is where the compiler ran.
    modern = header["version"] >= 5
    entry = files[index if modern else index - 1]
    name = _text(entry.name)
    if entry.dir_index == 0 or name.startswith("/"):
        return name
    return f"{_text(folders[entry.dir_index if modern else entry.dir_index - 1])}/{name}"


def _text(raw: object) -> str:
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
