"""What a gate is given: runs by path, folder and glob, with mutants beside them, and the binary at hand."""

from __future__ import annotations

import gzip
import hashlib

import msgspec
import pytest
from kexec_verify.errors import UsageError
from kexec_verify.gate.evidence import gather, sha256_of

from .examples import mutation, run


@pytest.fixture
def reports(tmp_path):
    for name in ("Image", "vmlinux"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_bytes(msgspec.json.encode(run(name=name)))
    return tmp_path


def names(*patterns):
    return [item.run.target.name for item in gather([str(pattern) for pattern in patterns])]


def test_run_by_file_folder_and_glob(reports):
    assert names(reports / "Image" / "run.json") == ["Image"]
    assert names(reports / "Image") == ["Image"]
    assert names(reports) == ["Image", "vmlinux"]
    assert names(reports / "*" / "run.json") == ["Image", "vmlinux"]
    assert names(reports / "vm*", reports / "vmlinux") == ["vmlinux"]


@pytest.mark.parametrize("pattern", ["nothing*", "missing/run.json", "."])
def test_pattern_without_a_run_is_refused(tmp_path, pattern):
    with pytest.raises(UsageError, match=r"expected a run\.json, found none at "):
        gather([str(tmp_path / pattern)])


def test_two_runs_of_one_name_are_refused(reports):
    (reports / "vmlinux" / "run.json").write_bytes(msgspec.json.encode(run(name="Image")))
    with pytest.raises(UsageError, match="expected one run of each target, found 2 of Image"):
        names(reports)


def test_broken_run_is_refused_and_not_left_out(reports):
    (reports / "vmlinux" / "run.json").write_text("{")
    with pytest.raises(UsageError, match=r"expected a run\.json of schema"):
        names(reports)


def test_mutants_beside_a_run(reports):
    assert gather([str(reports / "vmlinux")])[0].mutation is None
    path = reports / "vmlinux" / "mutation.json"
    path.write_bytes(msgspec.json.encode(mutation()))
    assert gather([str(reports / "vmlinux")])[0].mutation == mutation()
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(mutation(), schema=99)))
    with pytest.raises(UsageError, match="found schema 99"):
        names(reports)
    path.write_text("[]")
    with pytest.raises(UsageError, match=r"expected a mutation\.json of schema"):
        names(reports)


def test_binary_is_hashed_as_a_run_does_it(reports, tmp_path):
    (tmp_path / "plain").write_bytes(b"kernel")
    (tmp_path / "packed").write_bytes(gzip.compress(b"kernel"))
    digest = hashlib.sha256((tmp_path / "packed").read_bytes()).hexdigest()
    assert sha256_of(tmp_path / "packed") == digest, "a header belongs to the file, too"
    assert sha256_of(tmp_path / "plain") == hashlib.sha256(b"kernel").hexdigest()
    assert gather([str(reports / "vmlinux")], tmp_path / "packed")[0].binary == digest
    with pytest.raises(UsageError, match="expected one run to hold --binary"):
        gather([str(reports)], tmp_path / "plain")
    with pytest.raises(UsageError, match="expected a readable binary, found: No such file"):
        sha256_of(tmp_path / "missing")
