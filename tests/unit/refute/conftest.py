"""The shipped routines as code, with their forms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from elftools.elf.elffile import ELFFile
from kexec_verify.arm64.lift import Code
from kexec_verify.kexec.abi_variant import AbiVariant, recognise


@pytest.fixture(scope="session")
def routine(corpus) -> Callable[[str], tuple[Code, AbiVariant]]:
    """A function (stem of a shipped binary) that returns its routine and form."""
    binaries = {str(binary): binary for binary in corpus}

    def load(stem: str) -> tuple[Code, AbiVariant]:
        with binaries[stem].path.open("rb") as stream:
            elf = ELFFile(stream)
            symbol = elf.get_section_by_name(".symtab").get_symbol_by_name(binaries[stem].entry)[0]
            text = elf.get_section(symbol["st_shndx"])
            start = symbol["st_value"] - text["sh_addr"]
            data = text.data()[start : start + symbol["st_size"]]
        code = Code(binaries[stem].entry, symbol["st_value"], data)
        return code, recognise(code, binaries[stem].page_size)

    return load
