"""What is not proved, with the place that is to blame, and its source line where the ELF still has it."""

from __future__ import annotations

import hashlib
import subprocess

import msgspec
import pytest
from kexec_verify.gate.finding import findings, source_finder
from kexec_verify.report.model import TargetRecord
from kexec_verify.report.status import WHOLE_PATH_TARGET, Level

from .examples import ROUTINE, WHERE, claim, function, refuted, run, undecided, waived

BASE = 0xFFFF800008000000


def test_the_worst_comes_first_and_the_proved_not_at_all():
    found = findings([run(waived(), undecided(), claim("claim-a"), refuted())])
    assert [finding.level for finding in found] == [Level.ERROR, Level.WARNING, Level.NOTE]


def test_place_is_told_once():
    (finding,) = findings([run(refuted())])
    assert finding.where == WHERE
    assert finding.message == "when SCTLR_EL1 is written: expected clean, found dirty"


def test_place_of_what_is_undecided_is_that_of_the_failing_obligation():
    (finding,) = findings([run(undecided())])
    assert finding.where == f"{ROUTINE}+0x10/0x120"


def test_without_an_instruction_the_function_stands_for_it():
    (alone,) = findings([run(undecided(), functions=[function()])])
    lost = msgspec.structs.replace(undecided(), obligations=[])
    (finding,) = findings([run(lost)])
    (several,) = findings([run(lost, functions=[function(), function("machine_kexec")])])
    (named,) = findings([run(msgspec.structs.replace(lost, function="machine_kexec"))])
    assert (alone.function, finding.where) == (ROUTINE, ROUTINE)
    assert several.where == WHOLE_PATH_TARGET
    assert named.where == "machine_kexec"


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
