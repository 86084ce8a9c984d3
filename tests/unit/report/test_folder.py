"""The folder of a target's report: the same for the same file, another for another file of that name."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec
import pytest
from kexec_verify.report.folder import location_of, report_folder
from kexec_verify.report.model import Run, TargetRecord

from ..gate.examples import run


def hold(folder: Path, source: str, location: str | None = None) -> None:
    folder.mkdir(parents=True)
    location = location_of(source) if location is None else location
    made: Run = msgspec.structs.replace(
        run(), target=TargetRecord(folder.name, source, "elf", "0" * 64, None, None, location)
    )
    (folder / "run.json").write_bytes(msgspec.json.encode(made))


@pytest.fixture
def reports(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "reports"


def test_first_target_of_a_name_has_the_name(reports):
    assert report_folder(reports, "vmlinux", "a/vmlinux") == reports / "vmlinux"


def test_same_file_has_the_same_folder_however_it_is_typed(reports, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "vmlinux").write_text("")
    (tmp_path / "link").symlink_to("a/vmlinux")
    hold(reports / "vmlinux", "a/vmlinux")
    for source in ("a/vmlinux", "./a/../a/vmlinux", str(tmp_path / "a/vmlinux"), "link"):
        assert report_folder(reports, "vmlinux", source) == reports / "vmlinux"


def test_other_file_of_that_name_has_a_short_hash(reports):
    hold(reports / "vmlinux", "a/vmlinux")
    found = report_folder(reports, "vmlinux", "b/vmlinux")
    assert re.fullmatch(r"vmlinux-[0-9a-f]{8}", found.name)
    assert found == report_folder(reports, "vmlinux", "b/vmlinux")
    hold(found, "b/vmlinux")
    assert report_folder(reports, "vmlinux", "b/vmlinux") == found
    assert report_folder(reports, "vmlinux", "a/vmlinux") == reports / "vmlinux"


def test_same_typed_name_in_two_folders_is_two_files(reports, tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "a")
    hold(reports / "vmlinux", "vmlinux")
    monkeypatch.chdir(tmp_path / "b")
    assert report_folder(reports, "vmlinux", "vmlinux") != reports / "vmlinux"


def test_run_of_an_older_version_is_of_the_file_that_it_names(reports):
    hold(reports / "vmlinux", "a/vmlinux", location="")
    assert report_folder(reports, "vmlinux", "a/vmlinux") == reports / "vmlinux"
    assert report_folder(reports, "vmlinux", "b/vmlinux") != reports / "vmlinux"


def test_folder_that_another_target_of_the_command_will_have(reports):
    taken = {reports / "vmlinux": location_of("a/vmlinux")}
    assert report_folder(reports, "vmlinux", "a/vmlinux", taken) == reports / "vmlinux"
    assert report_folder(reports, "vmlinux", "b/vmlinux", taken) != reports / "vmlinux"


@pytest.mark.parametrize("contents", [b"", b"{}", b'{"target": 1}', b"\xff", b"[" * 5000])
def test_malformed_run_holds_no_target(reports, contents):
    (reports / "vmlinux").mkdir(parents=True)
    (reports / "vmlinux" / "run.json").write_bytes(contents)
    assert report_folder(reports, "vmlinux", "a/vmlinux") == reports / "vmlinux"


def test_package_and_file_of_one_name_are_two_targets(reports):
    hold(reports / "linux-image-1", "debian:linux-image-1")
    assert report_folder(reports, "linux-image-1", "debian:linux-image-1") == reports / "linux-image-1"
    assert report_folder(reports, "linux-image-1", "linux-image-1") != reports / "linux-image-1"


@pytest.mark.parametrize("name", ["ядро", "カーネル", "vmlinux-größe"])
def test_name_of_any_script_stays_readable(reports, name):
    hold(reports / name, f"a/{name}")
    assert report_folder(reports, name, f"a/{name}").name == name
    assert report_folder(reports, name, f"b/{name}").name.startswith(f"{name}-")


def test_hostile_sources_have_a_location(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.symlink("loop", "loop")
    names = ("", "loop", "a\0b", "x" * 5000, "\udcff")
    assert len({location_of(name) for name in names}) == len(names)
