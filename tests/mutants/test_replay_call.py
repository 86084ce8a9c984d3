"""A call that shows a fault, written out for a debugger: the script and the images are what was replayed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kexec_verify.arm64.lift import Code
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.machine_kexec import MachineKexec
from kexec_verify.prove.discharge import Discharger, decide
from kexec_verify.refute.functions.path_run import PAGE
from kexec_verify.refute.functions.search import refute
from kexec_verify.report.debugger import memory_images, write_out
from kexec_verify.report.replay import RecordedCall
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.target import open_target
from kexec_verify.verdict import Verdict

pytestmark = pytest.mark.mutant

IMAGE = Path(__file__).parents[2] / "binaries" / "whole" / "later-4k-gcc.elf"
NOP = bytes.fromhex("1f2003d5")


@pytest.fixture(scope="module")
def shown() -> RecordedCall:
    """machine_kexec without the call of cpu_do_switch_mm, the last one before it leaves."""
    kernel = open_target(str(IMAGE))
    code = KexecContext(kernel, KimageLayout(648), 4096).code("machine_kexec")
    switch = kernel.symbol("cpu_do_switch_mm")
    assert switch is not None
    calls = [at for at in code.addresses if code.at(at).call_target == switch.address]
    for at in calls:
        kernel = kernel.patched(at, NOP)
    proof = MachineKexec(KexecContext(kernel, KimageLayout(648), 4096), decide, False, False)
    proof.prove()
    required = [obligation for obligation in proof.obligations if obligation.name == "mk-idmap"]
    failing = [r for r in Discharger(5).discharge(required) if r.verdict is not Verdict.PROVED]
    found = refute(proof, failing[0], "inplace-idmap")
    assert found is not None
    plain = Code("machine_kexec", proof.code.address, proof.code.data)
    return RecordedCall(found, plain)


def test_images_and_code_are_what_was_replayed(shown: RecordedCall, tmp_path: Path):
    shown.confirm()
    *images, code, script = write_out(shown, tmp_path)
    given = shown.counterexample.given
    text = script.read_text()
    assert code.read_bytes() == shown.code.data
    loaded: dict[int, bytes] = {}
    for name, address in re.findall(r"^restore (\S+) binary (0x[0-9a-f]+)$", text, re.M):
        loaded[int(address, 16)] = (tmp_path / name).read_bytes()
    assert loaded == {**dict(memory_images(shown)), shown.code.address: shown.code.data}
    assert len(images) == len(loaded) - 1
    words = {
        start + i: int.from_bytes(data[i : i + 8], "little")
        for start, data in loaded.items()
        if start != shown.code.address
        for i in range(0, len(data), 8)
    }
    assert {at for at in words if at % PAGE == 0} == set(given.pages)
    assert {at: word for at, word in words.items() if word} == {at: w for at, w in given.memory.items() if w}


def test_script_sets_what_the_run_was_given_and_stops_at_the_effect(shown: RecordedCall, tmp_path: Path):
    text = write_out(shown, tmp_path)[-1].read_text()
    given = shown.counterexample.given
    head, *blocks = re.split(r"^break \*", text, flags=re.M)
    registers = {name: int(value, 16) for name, value in re.findall(r"^set \$(\w+) = (0x\w+)$", head, re.M)}
    for name in (*(f"x{i}" for i in range(31)), "sp"):
        assert registers[name] == given.registers[name], name
    stop = blocks.pop()
    assert stop.startswith(f"{shown.counterexample.at:#x} if $answered == {len(given.answers)}\n")
    assert f"set $pc = {given.start:#x}" in head + "".join(blocks)
    assert given.answers and {int(block.split()[0], 16) for block in blocks} == {a.at for a in given.answers}
    for block in blocks:
        at = int(block.split()[0], 16)
        assert f"set $pc = {at + 4:#x}\ncontinue\nend" in block
        for number, answer in enumerate(given.answers):
            if answer.at != at:
                continue
            (told,) = re.findall(rf"^if \$answered == {number}\n(.*?)^end", block, re.M | re.S)
            found = dict(re.findall(r"^  set \$(x\d+) = (0x\w+)$", told, re.M))
            wanted = {n: f"{v:#x}" for n, v in answer.registers.items() if re.fullmatch(r"x\d+", n)}
            assert found == wanted
