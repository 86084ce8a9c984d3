"""run.json read back: what is none of this schema is refused in one line."""

from __future__ import annotations

import msgspec
import pytest
from kexec_verify.errors import UsageError
from kexec_verify.report.model import SCHEMA, FunctionRecord, PropertyRecord, Run, TargetRecord
from kexec_verify.report.read import read_run, read_runs
from kexec_verify.verdict import Verdict


def example(verdicts=(Verdict.PROVED,), schema: int = SCHEMA, name: str = "vmlinux") -> Run:
    function = FunctionRecord(
        name="f",
        address=4096,
        size=4,
        sha256="0" * 64,
        found_by="symbol f",
        variant="kimage",
        page_size=4096,
        roles={"entry": "x20"},
        layout={"head": 0},
        layout_from="BTF",
        instructions=[],
    )
    return Run(
        schema=schema,
        tool="kexec-verify 0",
        started="2025-01-01T00:00:00+00:00",
        seconds=1.0,
        complete=True,
        target=TargetRecord(name, f"/boot/{name}", "elf", "0" * 64, None, None),
        functions=[function],
        properties=[
            PropertyRecord(f"claim-{i}", "T1", "It holds.", verdict, "", [], [], 0.0, [])
            for i, verdict in enumerate(verdicts)
        ],
        assumptions=[],
        paths=[],
        versions={},
        stages={},
    )


def test_run_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "run.json"
    path.write_bytes(msgspec.json.encode(example()))
    assert read_run(path) == example()


@pytest.mark.parametrize(
    "verdicts, worst",
    [
        ((Verdict.PROVED, Verdict.PROVED), Verdict.PROVED),
        ((Verdict.PROVED, Verdict.UNKNOWN), Verdict.UNKNOWN),
        ((Verdict.REFUTED, Verdict.UNKNOWN), Verdict.REFUTED),
        ((), Verdict.UNKNOWN),
    ],
)
def test_run_is_as_bad_as_its_worst_property(verdicts, worst):
    assert example(verdicts).verdict is worst


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"not json", b'{"schema": "one"}'])
def test_what_is_no_run_is_refused(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_bytes(text)
    with pytest.raises(UsageError, match=rf"run\.json: expected a run\.json of schema {SCHEMA}, found: "):
        read_run(path)


def test_verdict_that_nobody_knows_is_refused(tmp_path):
    path = tmp_path / "run.json"
    path.write_bytes(msgspec.json.encode(example()).replace(b"PROVED", b"GREENISH"))
    with pytest.raises(UsageError, match="found: "):
        read_run(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"expected a run\.json, found: No such file"):
        read_run(tmp_path / "run.json")


def test_another_schema_is_refused_and_left_out_of_a_directory(tmp_path):
    for name, schema in (("a", SCHEMA), ("b", SCHEMA + 1), ("c", SCHEMA)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_bytes(msgspec.json.encode(example(schema=schema, name=name)))
    with pytest.raises(UsageError, match=f"expected schema {SCHEMA}, found {SCHEMA + 1}"):
        read_run(tmp_path / "b" / "run.json")
    assert [run.target.name for run in read_runs(tmp_path).values()] == ["a", "c"]


def test_directory_without_runs_has_none(tmp_path):
    assert read_runs(tmp_path) == {}
    assert read_runs(tmp_path / "missing") == {}
