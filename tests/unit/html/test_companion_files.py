"""Other files in a run's folder are shown only if they are about that run."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from kexec_verify.check.model import Check
from kexec_verify.cosim.model import NegativeRecord, Report, SystemRecord
from kexec_verify.html.companion_files import before_save, companion_files
from kexec_verify.html.page import run_page
from kexec_verify.html.write import write_page
from kexec_verify.mutate.model import FaultRecord, HypothesisRecord, MutantRecord, MutationRun

from . import example


def check(run_sha256: str) -> Check:
    return Check(1, "t", run_sha256, 1.0, {"z3": "z3 5"}, 0, [], [], 0, {}, [], True, [], [], 0)


def mutation(sha256: str) -> MutationRun:
    mutants = [MutantRecord("nop", 0, "f+0x0", "a to nop", o, "", "", 0.1) for o in ("refuted", "survivor")]
    hypotheses = [HypothesisRecord("mmu-on", 3, ["reloc-step"]), HypothesisRecord("ctr-legal", 1, [])]
    return MutationRun(1, "t", sha256, 1, 9, 1.0, mutants, hypotheses, [FaultRecord("isb is a nop", "probe")])


def cosimulation() -> Report:
    negative, system = NegativeRecord(0, 0, 0, 0, 0, 0, 0, 0), SystemRecord(0, 0, {})
    return Report(1, "t", 0, 1.0, ["proved"], 7, 7, 1234, [], system, negative, [], {})


def test_everything_that_belongs_to_the_run_is_shown(tmp_path):
    run = example.proved()
    path = example.write(run, tmp_path)
    encoded = path.read_bytes()
    directory = path.parent
    (directory / "check.json").write_bytes(msgspec.json.encode(check(hashlib.sha256(encoded).hexdigest())))
    (directory / "mutation.json").write_bytes(msgspec.json.encode(mutation(run.target.sha256)))
    (tmp_path / "cosim.json").write_bytes(msgspec.json.encode(cosimulation()))
    found = companion_files(directory, run, encoded)
    assert found.check and found.mutation and found.cosimulation and not found.stale
    page = run_page(run, found, "run.json")
    for part in ("the record holds", "1,234 vectors", "1 survivors", "2 of 9 one-instruction mutants"):
        assert part in page
    assert "1 of 2 hypotheses are needed" in page and "1 of 1 errors seeded" in page


def test_what_is_about_another_run_is_named_and_not_shown(tmp_path):
    run = example.proved()
    path = example.write(run, tmp_path)
    (path.parent / "check.json").write_bytes(msgspec.json.encode(check("0" * 64)))
    (path.parent / "mutation.json").write_bytes(msgspec.json.encode(mutation("0" * 64)))
    found = companion_files(path.parent, run, path.read_bytes())
    assert (found.check, found.mutation, found.stale) == (None, None, ["check.json", "mutation.json"])
    assert "is about another run or other bytes" in run_page(run, found, "run.json")


@pytest.mark.parametrize("name", ["check.json", "mutation.json", "../cosim.json", "../.history/vmlinux.json"])
@pytest.mark.parametrize("contents", ["no json", "{}", "[" * 3000])
def test_malformed_file_is_left_out_with_a_note(tmp_path, name, contents):
    run = example.proved()
    path = example.write_as("vmlinux", run, tmp_path)
    (tmp_path / ".history").mkdir()
    (path.parent / name).write_text(contents)
    notes: list[str] = []
    write_page(path, notes.append)
    (note,) = notes
    assert name.removeprefix("../") in note and note.endswith("; the page leaves it out")


def test_before_a_run_is_saved_what_it_replaces_is_left_out(tmp_path):
    path = example.write(example.proved(), tmp_path)
    (path.parent / "check.json").write_bytes(msgspec.json.encode(check("0" * 64)))
    (tmp_path / "cosim.json").write_text("no json")
    found = before_save(path.parent, example.proved())
    assert (found.check, found.mutation, found.cosimulation, found.stale) == (None, None, None, [])
