"""Source lines of a run's instructions, by the DWARF of the ELF that was verified."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import subprocess
from pathlib import Path

import msgspec
import pytest
from kexec_verify import Verdict, verify
from kexec_verify.arm64.lift import Code
from kexec_verify.kexec.locate import find_function
from kexec_verify.report.explain import explain
from kexec_verify.report.model import TargetRecord
from kexec_verify.report.source_lines import source_finder
from kexec_verify.target import open_target

from tests.corpus_build import load_build

from ..gate.examples import refuted, run

BASE = 0xFFFF800008000000
SOURCES = Path("binaries/src")


def of_file(path, data=None):
    digest = hashlib.sha256(path.read_bytes() if data is None else data).hexdigest()
    return run(refuted(), target=TargetRecord("vmlinux", str(path), "elf", digest, None, None))


@pytest.fixture(scope="module")
def elf(require_tool, tmp_path_factory):
    compiler = require_tool("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")
    place = tmp_path_factory.mktemp("lines")
    (place / "arch").mkdir()
    (place / "arch" / "routine.S").write_text(".text\n.global start\nstart: nop\n    ret\n")
    link = ["-nostdlib", "-static", f"-Wl,-Ttext={BASE:#x}", "-Wl,--entry=start"]
    for name, source in (("relative.elf", "arch/routine.S"), ("absolute.elf", str(place / "arch/routine.S"))):
        subprocess.run([compiler, "-g", *link, source, "-o", name], cwd=place, check=True)
    return place


@pytest.mark.toolchain
@pytest.mark.parametrize("name", ["relative.elf", "absolute.elf"])
def test_source_line_is_relative_to_the_tree(elf, monkeypatch, name):
    monkeypatch.chdir(elf)
    path = elf / name
    assert source_finder()(of_file(path), [BASE + 4, BASE + 400]) == {BASE + 4: "arch/routine.S:4"}


@pytest.mark.toolchain
def test_file_that_has_changed_has_no_lines(elf):
    path = elf / "relative.elf"
    assert source_finder()(of_file(path, b"what was verified"), [BASE + 4]) == {}
    elsewhere = of_file(path)
    moved = msgspec.structs.replace(
        elsewhere, target=msgspec.structs.replace(elsewhere.target, source="/gone/vmlinux")
    )
    assert source_finder()(moved, [BASE + 4]) == {}
    assert source_finder(path)(moved, [BASE + 4]) == {BASE + 4: "arch/routine.S:4"}


def test_name_that_no_file_can_have_has_no_lines():
    named = run(refuted(), target=TargetRecord("vmlinux", "a" * 5000, "elf", "0" * 64, None, None))
    assert source_finder()(named, [BASE]) == {}


@pytest.fixture(scope="module")
def faulty(require_tool, tmp_path_factory):
    """A routine with debug information that does not clean the destination, and its source (two Paths)."""
    compiler = require_tool("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")
    place = tmp_path_factory.mktemp("faulty")
    source = place / "relocate_kernel.S"
    text = (SOURCES / "kimage-mmu" / source.name).read_text()
    assert text.count("dc\tcivac, x11") == 1
    source.write_text(text.replace("dc\tcivac, x11", "nop"))
    flags = ["-g", "-DPAGE_SHIFT=12", f"-I{(SOURCES / 'include').resolve()}"]
    linked = ["-nostdlib", "-static", "-Wl,--build-id=none", f"-Wl,-T,{(SOURCES / 'link.ld').resolve()}"]
    subprocess.run([compiler, *flags, *linked, source, "-o", place / "faulty.elf"], check=True)
    return place / "faulty.elf", source


@pytest.mark.toolchain
def test_the_line_of_the_cause_is_that_of_the_store(faulty):
    path, source = faulty
    found = verify(path, properties=["reloc-clean-to-poc"], cache=False)
    (record,) = [record for record in found.properties if record.id == "reloc-clean-to-poc"]
    assert record.verdict is Verdict.REFUTED
    told = explain(found, record, source_finder())
    lines = source.read_text().splitlines()

    def written(place: str) -> str:
        file, _, number = place.rpartition(":")
        assert Path(file).name == source.name
        return re.sub(r"\s+", " ", lines[int(number) - 1]).strip()

    (cause,) = told.causes
    assert written(cause.source) == cause.text == "stnp x12, x13, [x9]"
    assert told.symptom is not None and written(told.symptom.source) == "msr sctlr_el1, x5"
    assert f"({cause.source})" in "\n".join(told.lines())


@pytest.mark.toolchain
def test_line_of_a_call_in_compiled_c_is_that_of_the_source(require_tool, tmp_path):
    require_tool("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")
    script = load_build()
    script.WHOLE_LINK_FLAGS = tuple(flag for flag in script.WHOLE_LINK_FLAGS if flag != "--strip-debug")
    toolchain = script.gcc()
    script.build_whole(tmp_path, dataclasses.replace(toolchain, flags=(*toolchain.flags, "-g")), ("later",))
    path = tmp_path / "later-4k-gcc.elf"
    kernel = open_target(str(path))
    function = find_function(kernel, "machine_kexec_post_load")
    code = Code(function.name, function.address, function.code, calls=True)
    flush = kernel.symbol("dcache_clean_inval_poc").address
    calls = [at for at in code.addresses if code.at(at).call_target == flush]
    lines = source_finder()(of_file(path), calls)
    source = (SOURCES / "whole/later/machine_kexec.c").read_text().splitlines()
    assert len(calls) >= 2 and sorted(lines) == calls
    for place in lines.values():
        file, _, number = place.rpartition(":")
        assert file.endswith("whole/later/machine_kexec.c")
        assert "dcache_clean_inval_poc(" in source[int(number) - 1]
