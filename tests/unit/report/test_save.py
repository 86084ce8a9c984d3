"""A report is written whole or not at all."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from kexec_verify.errors import UsageError
from kexec_verify.report import save as module
from kexec_verify.report.record import report_files
from kexec_verify.report.save import is_saved
from kexec_verify.report.seal import is_sealed, seal_of


def outcome(**texts: str) -> SimpleNamespace:
    results = [SimpleNamespace(digest=name * 24, text=text) for name, text in texts.items()]
    return SimpleNamespace(findings=[SimpleNamespace(results=results)])


def save(run, outcome, directory, pages=None):
    return module.save(report_files(run, outcome, pages or {}), directory)


def files(directory) -> dict[str, str]:
    return {str(p.relative_to(directory)): p.read_text() for p in directory.rglob("*") if p.is_file()}


def test_report_has_run_json_and_each_text_once(tmp_path):
    path = save({"schema": 1}, outcome(a="(check-sat)\n", b="(exit)\n"), tmp_path / "deep" / "vmlinux")
    assert path == tmp_path / "deep" / "vmlinux" / "run.json"
    assert files(tmp_path / "deep") == {
        "vmlinux/run.json": '{\n "schema": 1\n}\n',
        "vmlinux/run.seal": f"{seal_of(path.read_bytes())}\n",
        f"vmlinux/obligations/{'a' * 24}.smt2": "(check-sat)\n",
        f"vmlinux/obligations/{'b' * 24}.smt2": "(exit)\n",
    }


def test_pages_are_written_with_it(tmp_path):
    save({"schema": 1}, outcome(), tmp_path / "vmlinux", {"index.html": "<p>\ud800</p>"})
    assert files(tmp_path)["vmlinux/index.html"] == "<p>?</p>"


def test_second_report_replaces_the_first(tmp_path):
    save({"schema": 1}, outcome(a="old"), tmp_path / "vmlinux")
    save({"schema": 2}, outcome(b="new"), tmp_path / "vmlinux")
    assert set(files(tmp_path)) == {
        "vmlinux/run.json",
        "vmlinux/run.seal",
        f"vmlinux/obligations/{'b' * 24}.smt2",
    }


def test_seal_is_of_one_run_and_one_user(tmp_path, monkeypatch):
    folder = save({"schema": 1}, outcome(), tmp_path / "vmlinux").parent
    data = (folder / "run.json").read_bytes()
    assert is_sealed(data, folder)
    assert not is_sealed(data + b" ", folder)
    monkeypatch.setenv("KEXEC_VERIFY_CACHE_KEY", "somebody else's")
    assert not is_sealed(data, folder)


def test_without_a_key_there_is_no_seal(tmp_path, monkeypatch):
    monkeypatch.setattr("kexec_verify.report.seal.user_key", lambda: None)
    folder = save({"schema": 1}, outcome(), tmp_path / "vmlinux").parent
    assert not (folder / "run.seal").exists()
    (folder / "run.seal").write_text("None\n")
    assert not is_sealed((folder / "run.json").read_bytes(), folder)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_interrupted_report_leaves_the_earlier_one(tmp_path, monkeypatch, error):
    save({"schema": 1}, outcome(a="old"), tmp_path / "vmlinux")
    before = files(tmp_path)

    def fail(fresh, directory):
        raise error

    monkeypatch.setattr(module, "_swap", fail)
    with pytest.raises(UsageError if isinstance(error, OSError) else KeyboardInterrupt):
        save({"schema": 2}, outcome(b="new"), tmp_path / "vmlinux")
    assert files(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["vmlinux"]


def test_directory_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"expected a directory to write to, found .*: Not a directory"):
        save({"schema": 1}, outcome(a="x"), tmp_path / "file" / "reports" / "vmlinux")


def test_report_that_stands_already_is_known_and_a_changed_one_is_not(tmp_path):
    made = report_files({"schema": 1}, outcome(a="text"), {"index.html": "page"})
    assert not is_saved(made, tmp_path / "vmlinux")
    module.save(made, tmp_path / "vmlinux")
    (tmp_path / "vmlinux" / "check.json").write_text("found out since")
    assert is_saved(made, tmp_path / "vmlinux")
    (tmp_path / "vmlinux" / "index.html").write_text("another")
    assert not is_saved(made, tmp_path / "vmlinux")


@pytest.mark.parametrize("name", ["check.json", "mutation.jsonl", "notes/mine.txt", "obligations/own.smt2"])
def test_what_is_no_reports_own_stays(tmp_path, name):
    folder = save({"schema": 1}, outcome(a="old"), tmp_path / "vmlinux").parent
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("found out since")
    save({"schema": 2}, outcome(b="new"), tmp_path / "vmlinux")
    assert (folder / name).read_text() == "found out since"
    assert not (folder / "obligations" / f"{'a' * 24}.smt2").exists()


def test_foreign_file_folder_or_link_is_not_replaced(tmp_path):
    (tmp_path / "kernel").write_text("an image")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<p>another's</p>")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "run.json").write_text("[]")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    before = files(tmp_path)
    for name in ("kernel", "site", "data", "link"):
        with pytest.raises(UsageError, match="expected a "):
            save({"schema": 1}, outcome(), tmp_path / name)
    assert files(tmp_path) == before
