"""Writes the table of docs/live.md from finished live runs: ``python scripts/live-table.py REPORTS``."""

from __future__ import annotations

import sys
from pathlib import Path

from kexec_verify.files import JSON_LIMIT, decode_json, read_file
from kexec_verify.report.live_model import FILE, LiveRun, Seen

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "live.md"
BEGIN, END = "<!-- live: begin -->\n", "<!-- live: end -->"


def rows(lives: list[LiveRun]) -> list[str]:
    """The table's lines: one for each configuration of each kernel."""
    found = [
        "| kernel | mode | level | CPU | outcome | held | false | not testable | false assumptions |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for live in sorted(lives, key=lambda each: each.version):
        for each in live.configurations:
            counts = {seen: sum(check.seen is seen for check in each.checks) for seen in Seen}
            false = dict.fromkeys(c.assumption for c in each.checks if c.seen is Seen.FALSE and c.assumption)
            numbers = f"{counts[Seen.HELD]} | {counts[Seen.FALSE]} | {counts[Seen.UNTESTED]}"
            names = ", ".join(f"`{name}`" for name in false)
            start = f"| {live.version} | {each.mode} | {each.level} | {each.cpu} | {each.outcome}"
            found.append(f"{start} | {numbers} | {names} |")
    return found


def main() -> None:
    """Put the table of the live runs under the folder that is named into the document."""
    paths = sorted(path for folder in sys.argv[1:] for path in Path(folder).glob(f"*/{FILE}"))
    lives = [decode_json(read_file(path, JSON_LIMIT), LiveRun) for path in paths]
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(before + BEGIN + "\n".join(rows(lives)) + "\n" + END + after)


main()
