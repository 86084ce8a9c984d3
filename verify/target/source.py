"""Source lines of addresses, from the DWARF of an ELF that has it."""

from __future__ import annotations

from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.dwarf.dwarfinfo import DWARFInfo
from elftools.elf.elffile import ELFFile


def source_line(path: Path, address: int) -> str | None:
    """``file:line`` of the instruction at ``address`` in the ELF at ``path``, or None if it does not say.

    Source: DWARF 5, 6.1.2 (address ranges) and 6.2 (line numbers).
    """
    try:
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            return _line(elf.get_dwarf_info(), address) if elf.has_dwarf_info() else None
    except (OSError, ELFError, ValueError, KeyError):
        return None  # a source line is a courtesy: without one the address stands for itself


def _line(dwarf: DWARFInfo, address: int) -> str | None:
    ranges = dwarf.get_aranges()
    offset = ranges.cu_offset_at_addr(address) if ranges is not None else None
    if offset is None:
        return None
    program = dwarf.line_program_for_CU(dwarf.get_CU_at(offset))
    if program is None:
        return None
    before = None
    for entry in program.get_entries():
        state = entry.state
        if state is None:
            continue
        if before is not None and before.address <= address < state.address:
            return f"{_file(program, before.file)}:{before.line}"
        before = None if state.end_sequence else state
    return None


def _file(program: object, index: int) -> str:
    header = program.header  # type: ignore[attr-defined]
    files = header["file_entry"]
    # Files are counted from 0 in DWARF 5 and from 1 before.
    entry = files[index if header["version"] >= 5 else index - 1]
    name = entry.name
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
