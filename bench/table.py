"""The tables of a record, for a terminal and for Markdown, drawn from the record alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

type Row = tuple[str, ...]

_HEADER: Row = ("what", "pages", "CPU (min–max)", "memory", "status")
_START, _END = "<!-- bench: {} -->", "<!-- bench: end -->"


def _seconds(cpu: dict[str, float]) -> str:
    if cpu["min"] == cpu["max"]:
        return f"{cpu['median']:.1f} s"
    return f"{cpu['median']:.1f} s ({cpu['min']:.1f}–{cpu['max']:.1f})"


def _row(what: str, pages: str, point: dict[str, Any]) -> Row:
    status = point["status"]
    spent = _seconds(point["cpu"]) if status == "done" else "–"
    shown = status if status != "timeout" else f"timeout ({point.get('limit', 0):.0f} s)"
    return (what, pages, spent, f"{point['memory']['max']:.0f} MB", shown)


def tool_rows(record: dict[str, Any]) -> list[Row]:
    """This tool, on the routine alone."""
    return [_row(f"this tool: {p['target']}", "any number", p) for p in record["any_length"]]


def rows(record: dict[str, Any]) -> list[Row]:
    """Each point of each series."""
    return tool_rows(record) + [
        _row(one["label"], str(point["pages"]), point) for one in record["series"] for point in one["points"]
    ]


def summary(record: dict[str, Any]) -> list[Row]:
    """One row a series: the longest list that was done, and where it ended."""
    found = tool_rows(record)
    for one in record["series"]:
        done = [p for p in one["points"] if p["status"] == "done"]
        last = one["points"][-1]
        if done:
            found.append(_row(one["label"], str(done[-1]["pages"]), done[-1]))
        if last["status"] != "done":
            found.append(_row(one["label"], str(last["pages"]), last))
    return found


def whole_rows(record: dict[str, Any]) -> list[Row]:
    """Whole commands: times, memory, solvers, and CPU time for each instruction proved."""
    found = []
    for point in [*record["whole"], *record["any_length"]]:
        figures = point.get("record")
        if figures is None or point["status"] != "done":
            found.append((point["target"], point["status"], point["error"], "", "", "", ""))
            continue
        each = point["cpu"]["median"] / figures["instructions"]
        found.append(
            (
                point["target"],
                _seconds(point["cpu"]),
                f"{point['wall']['median']:.1f} s",
                f"{point['memory']['max']:.0f} MB",
                f"{figures['solver']:.1f} s / {figures['texts']}",
                f"{figures['median'] * 1000:.0f} ms / {figures['slowest']:.2f} s",
                f"{each * 1000:.0f} ms × {figures['instructions']}",
            )
        )
    return found


_WHOLE: Row = (
    "verify run",
    "CPU (min–max)",
    "wall",
    "memory",
    "solvers / texts",
    "median / slowest",
    "an instruction × number",
)


def stock_rows(record: dict[str, Any]) -> list[Row]:
    """Stock angr's attempts, with its own error."""
    return [
        (p["engine"], Path(p["binary"]).name, p["output"] if p["status"] == "done" else p["error"])
        for p in record["stock"]
    ]


def dropped_rows(record: dict[str, Any]) -> list[Row]:
    """Who tells a routine without its cache maintenance apart."""
    return [
        (p["tool"], Path(p["binary"]).name, p["output"] if p["status"] == "done" else p["error"])
        for p in record["dropped"]
    ]


_STOCK: Row = ("engine", "binary", "what it says")
_DROPPED: Row = ("who", "binary, its dc replaced by a nop", "what it says")


def machine_text(record: dict[str, Any]) -> str:
    """What the machine was, in one paragraph."""
    made = record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    load = ", ".join(str(value) for value in made["load"])
    return (
        f"{made['cpu']}, {made['cores']} cores, {made['memory']} GiB; load average at the start {load}; "
        f"Python {made['python']}; {versions}. The whole took {record['seconds'] // 60} min."
    )


def aligned(header: Row, body: list[Row]) -> str:
    """A table for a terminal."""
    widths = [max(len(row[i]) for row in [header, *body]) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in [header, *body]]
    return "\n".join(line.rstrip() for line in lines)


def markdown(header: Row, body: list[Row]) -> str:
    """A table in Markdown."""
    cells = [
        [cell.replace("|", "\\|") for cell in row] for row in [header, tuple("---" for _ in header), *body]
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def text(record: dict[str, Any]) -> str:
    """All tables, for a terminal."""
    parts = (
        machine_text(record),
        aligned(_HEADER, rows(record)),
        aligned(_STOCK, stock_rows(record)),
        aligned(_DROPPED, dropped_rows(record)),
        aligned(_WHOLE, whole_rows(record)),
        f"verify list: {_seconds(record['start']['cpu'])}",
    )
    return "\n\n".join(parts)


def put(record: dict[str, Any], root: Path) -> None:
    """Put the tables into docs/bench.md and README.md, between their marks."""
    pieces = {
        "machine": machine_text(record),
        "lengths": markdown(_HEADER, rows(record)),
        "summary": markdown(_HEADER, summary(record)),
        "stock": markdown(_STOCK, stock_rows(record)),
        "dropped": markdown(_DROPPED, dropped_rows(record)),
        "whole": markdown(_WHOLE, whole_rows(record)),
    }
    for path in (root / "docs" / "bench.md", root / "README.md"):
        path.write_text(replaced(path.read_text(), pieces))


def replaced(page: str, pieces: dict[str, str]) -> str:
    """``page`` with each piece between its mark and the next end."""
    for name, piece in pieces.items():
        before, start, rest = page.partition(_START.format(name))
        if start:
            _, end, after = rest.partition(_END)
            if not end:
                raise ValueError(f"expected {_END} after {start}, found none")
            page = f"{before}{start}\n{piece}\n{end}{after}"
    return page
