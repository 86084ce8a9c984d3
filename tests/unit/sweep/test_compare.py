"""What kernels have in common."""

from __future__ import annotations

import msgspec
from kexec_verify.sweep.compare import differences, shared
from kexec_verify.sweep.model import Function
from kexec_verify.sweep.rows import error_row
from kexec_verify.verdict import Verdict

from ..html import example
from .examples import TOOL, finished, package

NAMES = ["6.1.0-44-arm64", "6.1.0-45-arm64", "6.1.0-46-arm64", "6.1.0-47-arm64"]


def rows(tmp_path, *digests: tuple[str, str]):
    found = []
    for name, (content, unplaced) in zip(NAMES, digests, strict=False):
        functions = [Function("f", 0x1000, 8, content, unplaced)]
        found.append(finished(tmp_path, package(name), functions=functions))
    return found


def test_functions_are_grouped_by_shape_then_by_bytes(tmp_path):
    listed = rows(tmp_path, ("c1", "s1"), ("c2", "s2"), ("c3", "s2"), ("c3", "s2"))
    (function,) = shared(listed)
    assert (function.name, function.kernels, function.contents) == ("f", 4, 3)
    assert [shape.digest for shape in function.shapes] == ["s2", "s1"]
    common, moved = function.shapes[0].groups
    assert (common.digest, common.packages) == ("c3", [f"linux-image-{n}" for n in NAMES[2:]])
    assert moved.digest == "c2"


def test_a_kernel_without_the_function_or_without_a_run_is_in_no_group(tmp_path):
    listed = rows(tmp_path, ("c1", "s1"), ("c1", "s1"))
    listed[1] = msgspec.structs.replace(listed[1], functions=[])
    listed.append(error_row(package(NAMES[2]), TOOL, "no network", 2))
    (function,) = shared(listed)
    assert function.kernels == 1


def test_equal_verdicts_are_no_difference(tmp_path):
    assert differences([finished(tmp_path, package(name)) for name in NAMES]) == []


def test_each_status_names_its_kernels(tmp_path):
    good = finished(
        tmp_path, package(NAMES[0]), example.run(example.claim("a"), example.claim("b"), name="good")
    )
    bad = finished(
        tmp_path,
        package(NAMES[1]),
        example.run(example.claim("a", Verdict.REFUTED), example.claim("b"), name="bad"),
    )
    waived = finished(
        tmp_path,
        package(NAMES[2]),
        example.run(example.claim("a", Verdict.REFUTED, waiver=example.WAIVER), name="waived"),
    )
    failed = error_row(package(NAMES[3]), TOOL, "no network", 2)
    first, second = differences([good, bad, waived, failed])
    assert first.id == "a"
    assert set(first.statuses) == {"PROVED", "REFUTED", "REFUTED (waived)"}
    assert second.statuses == {
        "PROVED": [f"linux-image-{n}" for n in NAMES[:2]],
        "absent": [f"linux-image-{NAMES[2]}"],
    }
