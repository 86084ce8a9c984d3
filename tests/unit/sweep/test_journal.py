"""What a sweep believes of an earlier one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kexec_verify.sweep import journal
from kexec_verify.sweep.model import FILE
from kexec_verify.sweep.rows import error_row

from ..html import example
from .examples import TOOL, finished, package

PACKAGE = package()


def test_a_finished_kernel_is_known(tmp_path):
    row = finished(tmp_path, PACKAGE)
    journal.add(tmp_path, row)
    assert journal.finished(tmp_path, PACKAGE, TOOL) == row


def test_nothing_is_known_of_another_tool(tmp_path):
    journal.add(tmp_path, finished(tmp_path, PACKAGE))
    assert journal.finished(tmp_path, PACKAGE, "71" * 32) is None


@pytest.mark.parametrize(
    "other",
    [package(version="6.1.192-3"), package("6.1.0-55-arm64"), replace(PACKAGE, sha256="0" * 64)],
    ids=["version", "name", "bytes"],
)
def test_nothing_is_known_of_another_package(tmp_path, other):
    journal.add(tmp_path, finished(tmp_path, PACKAGE))
    assert journal.finished(tmp_path, other, TOOL) is None


def test_an_incomplete_run_is_not_finished(tmp_path):
    run = example.run(example.claim("reloc-step"), name=PACKAGE.package, complete=False)
    journal.add(tmp_path, finished(tmp_path, PACKAGE, run))
    assert journal.finished(tmp_path, PACKAGE, TOOL) is None


def test_a_failure_is_tried_again(tmp_path):
    journal.add(tmp_path, error_row(PACKAGE, TOOL, "no network", 2))
    assert journal.finished(tmp_path, PACKAGE, TOOL) is None


@pytest.mark.parametrize("change", ["gone", "other"])
def test_a_run_that_is_no_longer_there_is_not_believed(tmp_path, change):
    row = finished(tmp_path, PACKAGE)
    journal.add(tmp_path, row)
    path = tmp_path / row.name / "run.json"
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"\n")
    assert journal.finished(tmp_path, PACKAGE, TOOL) is None


def test_a_new_row_replaces_that_of_the_same_package_only(tmp_path):
    other = package("6.1.0-55-arm64", "6.1.192-1")
    journal.add(tmp_path, error_row(PACKAGE, TOOL, "no network", 2))
    journal.add(tmp_path, finished(tmp_path, other))
    journal.add(tmp_path, finished(tmp_path, PACKAGE))
    assert [(row.package, row.error) for row in journal.read(tmp_path).rows] == [
        (other.package, ""),
        (PACKAGE.package, ""),
    ]


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"schema": 99, "rows": []}', b"\xff\x00"])
def test_a_damaged_file_is_as_good_as_none(tmp_path, text):
    (tmp_path / FILE).write_bytes(text)
    assert journal.read(tmp_path).rows == []
    journal.add(tmp_path, finished(tmp_path, PACKAGE))
    assert journal.finished(tmp_path, PACKAGE, TOOL) is not None
