"""The tables and the plot are drawn from the JSON alone, and show a failure as one."""

import json
import os

import pytest

from bench import plot, table

SPREAD = {"min": 1.25, "median": 1.5, "max": 2.0}


def point(status="done", error="", output="holds", **more):
    figures = {"cpu": SPREAD, "wall": SPREAD, "memory": {"min": 90, "median": 100, "max": 110}}
    return {"status": status, "error": error, "output": output, "limit": 60.0, **figures, **more}


FIGURES = {"solver": 3.0, "texts": 40, "median": 0.02, "slowest": 0.5, "instructions": 50, "functions": {}}
RECORD = {
    "machine": {
        "cpu": "a CPU",
        "cores": 2,
        "memory": 8.0,
        "load": [0.5, 0.25, 0.0],
        "python": "3.12",
        "versions": {"angr": "10"},
    },
    "seconds": 300,
    "any_length": [point(target="some.elf", record=FIGURES)],
    "whole": [
        point(target="kernel.elf", record=FIGURES),
        point("error", "exit status 3: |x|", target="vmlinuz"),
    ],
    "again": [point(target="kernel.elf, again"), point("timeout", "time", target="vmlinuz, again")],
    "start": point(),
    "stock": [
        {"engine": "vex", "binary": "binaries/a.elf", **point("error", "no decode")},
        {"engine": "pcode", "binary": "binaries/a.elf", **point(output="reached")},
    ],
    "dropped": [{"tool": "verify", "binary": "binaries/a.elf", **point(output="1 REFUTED")}],
    "series": [
        {
            "id": "b",
            "label": "bounded",
            "proves": "little",
            "points": [point(pages=1), point(pages=2), point("timeout", "time", pages=3)],
        },
        {"id": "c", "label": "checker", "proves": "less", "points": [point("out of memory", pages=1)]},
    ],
}


@pytest.fixture
def record():
    return json.loads(json.dumps(RECORD))


def test_each_point_is_a_row(record):
    assert table.rows(record) == [
        ("this tool: some.elf", "any number", "1.5 s (1.2–2.0)", "110 MB", "done"),
        ("bounded", "1", "1.5 s (1.2–2.0)", "110 MB", "done"),
        ("bounded", "2", "1.5 s (1.2–2.0)", "110 MB", "done"),
        ("bounded", "3", "–", "110 MB", "timeout (60 s)"),
        ("checker", "1", "–", "110 MB", "out of memory"),
    ]


def test_the_summary_keeps_the_longest_list_and_the_end(record):
    assert [(row[0], row[1], row[4]) for row in table.summary(record)[1:]] == [
        ("bounded", "2", "done"),
        ("bounded", "3", "timeout (60 s)"),
        ("checker", "1", "out of memory"),
    ]


def test_whole_commands_have_a_time_for_each_instruction(record):
    done, failed, again, late, _ = table.whole_rows(record)
    assert done[-1] == "30 ms × 50"
    assert failed[:3] == ("vmlinuz", "error", "exit status 3: |x|")
    assert again[:2] == ("kernel.elf, again", "1.5 s (1.2–2.0)") and again[-1] == ""
    assert late[:3] == ("vmlinuz, again", "timeout", "time")


def test_errors_are_shown_in_the_tool_s_own_words(record):
    assert table.stock_rows(record) == [("vex", "a.elf", "no decode"), ("pcode", "a.elf", "reached")]
    assert "no decode" in table.text(record)
    assert "exit status 3: \\|x\\|" in table.markdown(("a",) * 7, table.whole_rows(record))


def test_pieces_go_between_their_marks():
    start, other, end = "<!-- bench: x -->", "<!-- bench: y -->", "<!-- bench: end -->"
    page = f"a\n{start}\nold\n{end}\nb\n{other}\n{end}\nc\n"
    once = table.replaced(page, {"x": "X", "y": "Y", "z": "Z"})
    assert (
        once
        == "a\n<!-- bench: x -->\nX\n<!-- bench: end -->\nb\n<!-- bench: y -->\nY\n<!-- bench: end -->\nc\n"
    )
    assert table.replaced(once, {"x": "X", "y": "Y"}) == once
    with pytest.raises(ValueError, match="bench: end"):
        table.replaced("<!-- bench: x -->", {"x": "X"})


@pytest.mark.toolchain
def test_plot_shows_each_series_and_each_failure(record, tmp_path):
    if os.environ.get("CI") != "true":  # there nothing may be left out
        pytest.importorskip("matplotlib", reason="matplotlib not found: run scripts/bench-tools.sh --plot")
    path = tmp_path / "plot.svg"
    plot.draw(record, path)
    drawn = path.read_text()
    for text in ("bounded", "checker", "timeout", "out of memory", "some.elf"):
        assert text in drawn
    again = tmp_path / "again.svg"
    plot.draw(record, again)
    assert again.read_text() == drawn
