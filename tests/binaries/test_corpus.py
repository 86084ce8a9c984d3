"""The shipped corpus: as its manifest says, doing what its forms promise, rebuilt from its sources."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import capstone
import pytest
import unicorn
from elftools.elf.elffile import ELFFile
from unicorn import arm64_const as arm64

from tests.corpus_build import load_build

BINARIES = Path(__file__).resolve().parents[2] / "binaries"

DESTINATION, INDIRECTION, DONE, SOURCE = 1, 2, 4, 8
PHYS_OFFSET = 0x4000_0000
HVC = bytes.fromhex("020000d4")


def routine_of(binary) -> tuple[int, bytes]:
    with binary.path.open("rb") as stream:
        elf = ELFFile(stream)
        symbol = elf.get_section_by_name(".symtab").get_symbol_by_name(binary.entry)[0]
        text = elf.get_section(symbol["st_shndx"])
        start = symbol["st_value"] - text["sh_addr"]
        return symbol["st_value"], text.data()[start : start + symbol["st_size"]]


def test_manifest_names_every_binary(corpus):
    assert {binary.path.name for binary in corpus} == {path.name for path in BINARIES.glob("*.elf")}


def test_every_form_comes_for_every_page_size_and_compiler(corpus):
    build = load_build()
    expected = {
        (variant, 1 << shift, compiler)
        for variant in build.VARIANTS
        for shift in build.PAGE_SHIFTS.values()
        for compiler in build.TOOLCHAINS
    }
    assert {(binary.variant, binary.page_size, binary.compiler) for binary in corpus} == expected


def test_manifest_knows_the_sources():
    manifest = json.loads((BINARIES / "manifest.json").read_text())
    assert load_build().source_hashes() == manifest["sources"], "sources changed: run `make binaries`"


def test_hash(corpus_binary):
    assert hashlib.sha256(corpus_binary.path.read_bytes()).hexdigest() == corpus_binary.sha256


def test_elf_is_small_static_and_names_its_routine(corpus_binary):
    assert corpus_binary.path.stat().st_size < 8192
    with corpus_binary.path.open("rb") as stream:
        elf = ELFFile(stream)
        assert (elf.elfclass, elf.little_endian, elf["e_machine"], elf["e_type"]) == (
            64,
            True,
            "EM_AARCH64",
            "ET_EXEC",
        )
        symbol = elf.get_section_by_name(".symtab").get_symbol_by_name(corpus_binary.entry)[0]
        assert symbol["st_info"]["type"] == "STT_FUNC"
        assert symbol["st_value"] == elf["e_entry"]
        assert 0 < symbol["st_size"] < 4096
        assert not any(section.name.startswith(".debug") for section in elf.iter_sections())


def test_routine_uses_neither_stack_nor_calls_nor_vectors(corpus_binary):
    address, code = routine_of(corpus_binary)
    disassembler = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
    disassembler.detail = True
    instructions = list(disassembler.disasm(code, address))
    assert len(instructions) * 4 == len(code), "a word that is no instruction"
    for instruction in instructions:
        assert instruction.mnemonic not in ("bl", "blr", "ret"), instruction
        read, written = instruction.regs_access()
        names = {instruction.reg_name(register) for register in (*read, *written)}
        assert not names & {"sp", "wsp"}, instruction
        assert not any(name[0] in "qdvshb" and name[1:].isdigit() for name in names), instruction


def test_routine_relocates_a_small_list(corpus_binary):
    """Two segments, a page copied onto itself and a list of two pages end up as the list says."""
    page = corpus_binary.page_size
    kimage_form = corpus_binary.variant == "kimage-mmu"
    # The other forms enter EL2 before the routine.
    el2_vectors = 0x7000_0000 if kimage_form else 0

    # Physical pages by number; the kimage forms see them through a linear map at physical - phys_offset.
    pages = 16
    physical = [0x8000_0000 + n * page for n in range(pages)]
    shift = PHYS_OFFSET if kimage_form else 0
    start, dtb = 0x6000_0000, 0x9_1234_5000
    code_at, kimage = 0x1000_0000, 0x2000_0000

    machine = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
    _, code = routine_of(corpus_binary)
    machine.mem_map(code_at, 0x10000)
    machine.mem_write(code_at, code)
    machine.mem_map(kimage, 0x10000)
    machine.mem_map(start, 0x10000)
    machine.mem_map(physical[0] - shift, pages * page)
    contents = [bytes([n + 1]) * (page - 8) + struct.pack("<Q", 0x1111 * n) for n in range(pages)]

    def page_of(words):
        return struct.pack(f"<{len(words)}Q", *words).ljust(page, b"\0")

    # 0 and 1 hold the list; 8.. is the first segment, 12 the second.
    last_slot = [0] * (page // 8 - 5)
    contents[0] = page_of(
        [
            physical[8] | DESTINATION,
            physical[2] | SOURCE,
            physical[9] | SOURCE,
            physical[3] | SOURCE,
            *last_slot,
            physical[1] | INDIRECTION,
        ]
    )
    contents[1] = page_of([physical[4] | SOURCE, physical[12] | DESTINATION, physical[5] | SOURCE, DONE])
    for n, content in enumerate(contents):
        machine.mem_write(physical[n] - shift, content)
    expected = list(contents)
    for destination, source in ((8, 2), (9, 9), (10, 3), (11, 4), (12, 5)):
        expected[destination] = contents[source]

    outer = [getattr(arm64, f"UC_ARM64_REG_X{n}") for n in range(5)]
    head = physical[0] | INDIRECTION
    if kimage_form:
        fields = {0: head, 24: start, 648: dtb, 664: el2_vectors}
        fields |= {680: physical[13], 688: physical[14], 696: shift}
        for offset, value in fields.items():
            machine.mem_write(kimage + offset, struct.pack("<Q", value))
        machine.reg_write(outer[0], kimage)
    else:
        for register, value in zip(outer, (head, start, dtb), strict=False):
            machine.reg_write(register, value)

    calls = []

    def refuse(uc, at, _size, _data):
        # A hypervisor that returns: the routine must still reach the new kernel.
        calls.append([uc.reg_read(register) for register in outer])
        uc.reg_write(outer[0], 0xFFFF_FFFF_FFFF_FFFF)
        uc.reg_write(arm64.UC_ARM64_REG_PC, at + 4)

    for offset in range(0, len(code), 4):
        if code[offset : offset + 4] == HVC:
            at = code_at + offset
            machine.hook_add(unicorn.UC_HOOK_CODE, refuse, begin=at, end=at)
    machine.emu_start(code_at, start, timeout=20_000_000)

    assert machine.reg_read(arm64.UC_ARM64_REG_PC) == start
    assert [machine.reg_read(register) for register in outer[:4]] == [dtb, 0, 0, 0]
    assert calls == ([[1, start, dtb, 0, 0]] if el2_vectors else [])
    for n in range(pages):
        assert machine.mem_read(physical[n] - shift, page) == expected[n], f"page {n}"


@pytest.mark.toolchain
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_sources_give_the_same_bytes_again(compiler, corpus, require_tool, tmp_path):
    build = load_build()
    if compiler == "gcc":
        require_tool("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")
        require_tool("aarch64-linux-gnu-ld", "binutils-aarch64-linux-gnu")
    toolchain = build.TOOLCHAINS[compiler]()
    manifest = json.loads(build.MANIFEST.read_text())
    expected = [entry for entry in manifest["binaries"] if entry["compiler"] == compiler]
    for key in ("compiler_version", "linker_version"):
        recorded = {entry[key] for entry in expected}
        if recorded != {getattr(toolchain, key)}:
            pytest.skip(f"the corpus was built with {recorded}, here is {getattr(toolchain, key)}")
    entries = build.build(tmp_path, toolchain)
    assert sorted(entries, key=lambda entry: entry["file"]) == expected
    for binary in corpus:
        if binary.compiler == compiler:
            assert (tmp_path / binary.path.name).read_bytes() == binary.path.read_bytes()
