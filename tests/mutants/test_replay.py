"""Seeding a fault, refuting it, and replaying the refutation, by the commands a user would type."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from kexec_verify.kexec.locate import find_routine
from kexec_verify.target import open_target

pytestmark = pytest.mark.mutant

SHIPPED = Path(__file__).parents[2] / "binaries" / "kimage-mmu-4k-gcc.elf"
NOP = "0xd503201f"


def verify(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "kexec_verify", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def refuted(tmp_path_factory) -> Path:
    """run.json of the shipped routine without its dc civac."""
    directory = tmp_path_factory.mktemp("refuted")
    routine = find_routine(open_target(str(SHIPPED)))
    words = [int.from_bytes(routine.code[i : i + 4], "little") for i in range(0, len(routine.code), 4)]
    (index,) = (i for i, word in enumerate(words) if word & ~0x1F == 0xD50B7E20)
    broken = directory / "broken.elf"
    patch = f"arm64_relocate_new_kernel+{4 * index:#x}={NOP}"
    done = verify("extract", SHIPPED, broken, "--patch", patch)
    assert done.returncode == 0, done.stderr
    reports = directory / "reports"
    done = verify("run", broken, "--property", "reloc-clean-to-poc", "--reports", reports)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "replayed: confirmed" in done.stdout
    assert f"next: verify replay {reports / 'broken.elf' / 'run.json'}" in done.stdout
    return reports / "broken.elf" / "run.json"


def test_replay_confirms_and_writes_what_a_debugger_needs(refuted: Path, tmp_path: Path):
    done = verify("replay", refuted, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "replayed: confirmed" in done.stdout
    script = (tmp_path / "reloc-clean-to-poc.gdb").read_text()
    assert "restore reloc-clean-to-poc.memory.bin" in script and "set $pc" in script
    code = (tmp_path / "reloc-clean-to-poc.code.bin").read_bytes()
    assert bytes.fromhex("1f2003d5") in code


def tampered(refuted: Path, tmp_path: Path, change) -> Path:
    run = json.loads(refuted.read_text())
    change(run)
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run))
    return path


def test_replay_that_does_not_show_the_effect_is_an_internal_fault(refuted: Path, tmp_path: Path):
    def change(run: dict) -> None:
        shown = next(p["counterexample"] for p in run["properties"] if p.get("counterexample"))
        shown["effect"] += " elsewhere"

    done = verify("replay", tampered(refuted, tmp_path, change))
    assert done.returncode == 70
    assert done.stderr.count("\n") == 1 and "does not show" in done.stderr


def test_replay_of_other_bytes_is_refused(refuted: Path, tmp_path: Path):
    def change(run: dict) -> None:
        run["functions"][0]["instructions"][0]["word"] ^= 1 << 5

    done = verify("replay", tampered(refuted, tmp_path, change))
    assert done.returncode == 2
    assert "SHA-256" in done.stderr and "Traceback" not in done.stderr


def test_patch_that_names_nothing_is_refused(tmp_path: Path):
    for patch in ("nothing", "no_such_symbol+4=0", "arm64_relocate_new_kernel+0x3=0"):
        done = verify("extract", SHIPPED, tmp_path / "out.elf", "--patch", patch)
        assert done.returncode == 2, patch
        assert done.stderr.startswith("verify: error: expected")
        assert not (tmp_path / "out.elf").exists()


def test_ledger_says_who_uses_what(refuted: Path):
    done = verify("assumptions", "broken.elf", "--reports", refuted.parents[1])
    assert done.returncode == 0
    ledger = done.stdout
    assert "list-defined\n" in ledger and "used by: " in ledger and "can hold: " in ledger
    assert "dest(i)" not in ledger.split("daif-masked")[1].split("\n\n")[0]


def test_fault_of_the_stub_is_replayed_on_the_stubs_bytes(tmp_path: Path):
    shipped, broken = SHIPPED.parent / "whole" / "later-4k-gcc.elf", tmp_path / "broken.elf"
    # The stub's `mov x0, x2` takes x3 instead: the image is entered with another dtb.
    done = verify("extract", shipped, broken, "--patch", "__hyp_stub_vectors+0x830=0xaa0303e0")
    assert done.returncode == 0, done.stderr
    reports = tmp_path / "reports"
    options = ("--property", "stub-soft-restart", "--reports", reports)
    assert verify("run", broken, *options).returncode == 1
    done = verify("replay", reports / broken.name / "run.json")
    assert done.returncode == 0, done.stderr
    assert "__hyp_stub_vectors+0x83c" in done.stdout and "confirmed" in done.stdout
