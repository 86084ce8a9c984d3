"""A baseline is written so that its diff can be reviewed, and reads back as it was."""

from __future__ import annotations

import pytest
from kexec_verify.errors import UsageError
from kexec_verify.gate.baseline import SCHEMA, Baseline, baseline_of, changes, read_baseline, write_baseline

from .examples import claim, run, undecided, waived


def test_baseline_comes_back_as_it_was_written(tmp_path):
    baseline = baseline_of([run(claim("claim-a"), waived(), undecided()), run(name="Image")])
    write_baseline(baseline, tmp_path / "deep" / "baseline.json")
    assert read_baseline(tmp_path / "deep" / "baseline.json") == baseline


def test_order_of_a_run_does_not_show(tmp_path):
    first, second = tmp_path / "1", tmp_path / "2"
    a, b = claim("claim-a", assumptions=["x", "y"]), claim("claim-b")
    write_baseline(baseline_of([run(a, b), run(name="Image")]), first)
    turned = claim("claim-a", assumptions=["y", "x"])
    write_baseline(baseline_of([run(name="Image"), run(b, turned)]), second)
    assert first.read_bytes() == second.read_bytes()


def test_new_assumption_is_one_line_of_the_diff(tmp_path):
    write_baseline(baseline_of([run(claim("claim-a", assumptions=["a", "c"]))]), tmp_path / "1")
    write_baseline(baseline_of([run(claim("claim-a", assumptions=["a", "b", "c"]))]), tmp_path / "2")
    before, after = (set((tmp_path / name).read_text().splitlines()) for name in "12")
    assert [line.strip() for line in after - before] == ['"b",']
    assert not before - after


def test_changes_are_told_an_item_a_line():
    old = baseline_of([run(claim("claim-a", assumptions=["a"]), claim("claim-b"))])
    new = baseline_of([run(claim("claim-a", assumptions=["b"]), undecided("claim-b"))])
    assert changes(old, new) == [
        "- vmlinux: claim-a: assumes a",
        "+ vmlinux: claim-a: assumes b",
        "! vmlinux: claim-b: PROVED -> UNKNOWN",
        "- vmlinux: claim-b: must prove claim-b-a",
        "- vmlinux: claim-b: must prove claim-b-b",
        "+ vmlinux: claim-b: must prove claim-step",
    ]
    assert changes(new, new) == []


def test_what_is_waived_is_not_proved():
    target = baseline_of([run(waived())]).targets["vmlinux"]
    assert target.properties["claim-waived"].status == "REFUTED (waived)"
    assert not target.properties["claim-waived"].proved


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1, "targets": {}, "more": 1}'])
def test_what_is_no_baseline_is_refused(tmp_path, text):
    (tmp_path / "baseline").write_text(text)
    with pytest.raises(UsageError, match=rf"expected a baseline of schema {SCHEMA}, found: "):
        read_baseline(tmp_path / "baseline")


def test_another_schema_and_a_missing_file_are_refused(tmp_path):
    write_baseline(Baseline(SCHEMA + 1, {}), tmp_path / "baseline")
    with pytest.raises(UsageError, match=f"found schema {SCHEMA + 1}"):
        read_baseline(tmp_path / "baseline")
    with pytest.raises(UsageError, match="found: No such file"):
        read_baseline(tmp_path / "missing")
