"""Source lines from DWARF that an assembler wrote."""

import subprocess
from pathlib import Path

import pytest
from kexec_verify.target.source import source_line

BASE = 0xFFFF800008000000
SOURCE = """\
    .text
    .global start
start: nop
    mov x0, x1

    ret
"""


@pytest.fixture(scope="module")
def elf(require_tool, tmp_path_factory) -> Path:
    compiler = require_tool("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")
    directory = tmp_path_factory.mktemp("lines")
    (directory / "routine.S").write_text(SOURCE)
    link = ["-nostdlib", "-static", f"-Wl,-Ttext={BASE:#x}", "-Wl,--entry=start"]
    subprocess.run([compiler, "-g", *link, "routine.S", "-o", "routine.elf"], cwd=directory, check=True)
    return directory / "routine.elf"


@pytest.mark.toolchain
@pytest.mark.parametrize(("offset", "line"), [(0, 3), (4, 4), (8, 6)])
def test_line_of_an_instruction(elf: Path, offset: int, line: int):
    assert source_line(elf, BASE + offset) == f"routine.S:{line}"


@pytest.mark.toolchain
def test_address_outside_the_code_has_no_line(elf: Path):
    assert source_line(elf, BASE + 64) is None


def test_what_is_no_elf_has_no_line(tmp_path: Path):
    (tmp_path / "text").write_text("no ELF")
    assert source_line(tmp_path / "text", 0) is None
    assert source_line(tmp_path / "missing", 0) is None


def test_elf_without_debug_information_has_no_line(corpus):
    assert source_line(corpus[0].path, BASE) is None
