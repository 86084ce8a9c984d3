"""A target's earlier runs survive new ones."""

from __future__ import annotations

import msgspec
import pytest
from kexec_verify.errors import UsageError
from kexec_verify.html import history
from kexec_verify.verdict import Verdict

from . import example


def later(day: int):
    return msgspec.structs.replace(example.proved(), started=f"2025-01-{day:02}T00:00:00+00:00")


def test_runs_are_kept_in_order_and_each_once(tmp_path):
    for day in (1, 2, 2, 3):
        history.write(tmp_path, "vmlinux", history.with_run(history.read(tmp_path, "vmlinux"), later(day)))
    found = history.read(tmp_path, "vmlinux")
    assert [entry.started[8:10] for entry in found] == ["01", "02", "03"]
    assert [path.name for path in (tmp_path / ".history").iterdir()] == ["vmlinux.json"]


def test_old_runs_are_dropped():
    entries: list[history.Entry] = []
    for number in range(history.KEPT + 5):
        run = msgspec.structs.replace(example.proved(), started=f"run {number}")
        entries = history.with_run(entries, run)
    assert len(entries) == history.KEPT
    assert entries[-1].started == f"run {history.KEPT + 4}"


def test_unreadable_history_is_none(tmp_path):
    (tmp_path / ".history").mkdir()
    (tmp_path / ".history" / "a.json").write_text("[{}]")
    assert history.read(tmp_path, "a") == []
    assert history.read(tmp_path, "b") == []


def test_waived_run_is_not_green():
    assert history.entry_status(history.entry(example.composed())).tone == "warn"
    assert history.entry_status(history.entry(example.proved())).tone == "good"


def test_waiver_does_not_hide_what_is_undecided():
    waived = next(record for record in example.composed().properties if record.waiver is not None)
    undecided = example.run(waived, example.claim("a", Verdict.UNKNOWN))
    assert history.entry_status(history.entry(undecided)).word == "UNKNOWN"
    assert history.entry_status(history.entry(example.run(waived))).word == "REFUTED (waived)"


def test_unwritable_directory_is_one_clear_line(tmp_path):
    (tmp_path / ".history").write_text("a file")
    with pytest.raises(UsageError, match=r"expected a directory to write to, found .*\.history: File exists"):
        history.write(tmp_path, "a", [])


def test_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "page"
    history.replace(path, b"old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        history.replace(path, b"new")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("page", b"old")]
