"""Where the shipped corpus is found."""

from __future__ import annotations

from pathlib import Path

import kexec_verify
import pytest
from kexec_verify.errors import UsageError
from kexec_verify.shipped import corpus_files, corpus_folder

ROOT = Path(__file__).resolve().parents[2]


def test_checkout_from_its_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert corpus_folder() == Path("binaries")
    assert "binaries/whole/later-4k-gcc.elf" in corpus_files()


def test_checkout_from_elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert corpus_folder() == ROOT / "binaries"


def package(monkeypatch, folder: Path) -> None:
    folder.mkdir(parents=True)
    monkeypatch.setattr(kexec_verify, "__file__", str(folder / "__init__.py"))


def test_installed_package_has_its_own(monkeypatch, tmp_path):
    package(monkeypatch, tmp_path / "kexec_verify")
    (tmp_path / "kexec_verify" / "corpus" / "whole").mkdir(parents=True)
    for name in ("manifest.json", "b.elf", "whole/a.elf", "notes.txt"):
        (tmp_path / "kexec_verify" / "corpus" / name).write_text("")
    found = [Path(name).relative_to(tmp_path).as_posix() for name in corpus_files()]
    assert found == ["kexec_verify/corpus/b.elf", "kexec_verify/corpus/whole/a.elf"]


def test_folder_of_that_name_beside_the_package_is_not_taken(monkeypatch, tmp_path):
    package(monkeypatch, tmp_path / "kexec_verify")
    (tmp_path / "binaries").mkdir()
    (tmp_path / "binaries" / "a.elf").write_text("")
    with pytest.raises(UsageError, match="expected the shipped binaries"):
        corpus_folder()
