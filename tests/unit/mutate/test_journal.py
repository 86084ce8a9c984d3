"""The journal: which of its lines count for a run, and which do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from kexec_verify.arm64.lift import Code
from kexec_verify.errors import UsageError
from kexec_verify.kexec.abi_variant import AbiVariant
from kexec_verify.mutate import journal as module
from kexec_verify.mutate.binary import Mutant
from kexec_verify.mutate.journal import Journal, query
from kexec_verify.mutate.model import MutantRecord
from kexec_verify.mutate.run import Job

VARIANT = AbiVariant(False, 4, frozenset({8, 16}), "x16", "x14", "x13", 4096, None)
TARGET = "ab" * 32


def job(word: int, variant: AbiVariant = VARIANT) -> Job:
    code = Code("routine", 0x1000, word.to_bytes(4, "little"))
    return Job(Mutant("opcode", 0x1000, f"nop → {word:#x}", code), variant, False)


def record(job: Job, seconds: float = 1.0) -> MutantRecord:
    mutant = job.mutant
    return MutantRecord(mutant.kind, mutant.at, "routine+0x0/0x4", mutant.edit, "refuted", "a", "", seconds)


def written(path: Path, *jobs: Job) -> Path:
    outcomes = [(job, record(job)) for job in jobs]
    assert list(Journal(path, TARGET).follow(outcomes)) == outcomes
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "target" / "mutation.jsonl"


def test_what_was_written_is_known(path):
    journal = Journal(written(path, job(1), job(2)), TARGET)
    assert journal.known(job(1)) == record(job(1))
    assert journal.known(job(2)) == record(job(2))
    assert journal.known(job(3)) is None


def test_each_outcome_is_in_the_file_before_it_is_passed_on(path):
    following = Journal(path, TARGET).follow((job(n), record(job(n))) for n in range(3))
    for count, _ in enumerate(following, 1):
        assert path.read_bytes().count(b"\n") == count


def test_journal_of_other_bytes_is_not_believed(path):
    assert Journal(written(path, job(1)), "cd" * 32).known(job(1)) is None


def test_journal_of_another_tool_is_not_believed(path, monkeypatch):
    written(path, job(1))
    monkeypatch.setattr(module, "tool_digest", lambda: "another")
    assert Journal(path, TARGET).known(job(1)) is None


def test_same_change_of_another_query_is_not_believed(path):
    journal = Journal(written(path, job(1)), TARGET)
    assert journal.known(replace(job(1), ask_prover=True)) is None
    assert journal.known(job(1, replace(VARIANT, page_size=16384))) is None


def test_query_does_not_depend_on_the_order_of_a_set():
    exits = list(range(0, 4096, 4))
    one, other = frozenset(exits), frozenset(reversed(exits))
    assert query(job(1, replace(VARIANT, exits=one))) == query(job(1, replace(VARIANT, exits=other)))


def test_torn_line_is_dropped_and_the_rest_is_kept(path):
    written(path, job(1), job(2))
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    journal = Journal(path, TARGET)
    assert (journal.known(job(1)), journal.known(job(2))) == (record(job(1)), None)
    written(path, job(2))
    assert path.read_bytes() == whole


def test_line_that_is_no_record_is_passed_over(path):
    written(path, job(1))
    path.write_bytes(b"nonsense\n{}\n\xff\n" + path.read_bytes())
    assert Journal(path, TARGET).known(job(1)) == record(job(1))


def test_journal_that_cannot_be_written_is_bad_input(tmp_path):
    (tmp_path / "target").write_text("a file")
    with pytest.raises(UsageError, match="expected"):
        written(tmp_path / "target" / "mutation.jsonl", job(1))


def test_tool_digest_is_of_the_sources():
    assert len(module.tool_digest()) == 64
