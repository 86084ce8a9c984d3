"""The live runs of a kernel on its page: a row for each assumption, a column for each configuration."""

from __future__ import annotations

from dataclasses import dataclass

from kexec_verify.report.live_model import CheckRecord, Configuration, LiveRun, Seen
from kexec_verify.report.model import Run

_CONCLUSIONS = "what the proofs conclude"
_WORDS = {Seen.HELD: "held", Seen.FALSE: "FALSE", Seen.UNTESTED: "not testable"}


@dataclass(frozen=True)
class Cell:
    """What one configuration has shown of one assumption; ``values`` are its checks, in words."""

    word: str
    tone: str
    values: list[str]


@dataclass(frozen=True)
class Row:
    """One assumption of the proofs, or their conclusions."""

    name: str
    cells: list[Cell]


@dataclass(frozen=True)
class LiveTable:
    """Live runs, for the page."""

    live: LiveRun
    rows: list[Row]


def live_table(run: Run, live: LiveRun | None) -> LiveTable | None:
    """Return the live runs of ``run``'s bytes as a table; None if there are none."""
    if live is None:
        return None
    names = dict.fromkeys([a.id for a in run.assumptions] + [c.assumption for c in _checks(live)])
    named = [name for name in names if name and any(c.assumption == name for c in _checks(live))]
    rows = [
        Row(name or _CONCLUSIONS, [_cell(each, name) for each in live.configurations])
        for name in (*named, "")
    ]
    return LiveTable(live, rows)


def _checks(live: LiveRun) -> list[CheckRecord]:
    return [check for each in live.configurations for check in each.checks]


def _cell(each: Configuration, name: str) -> Cell:
    mine = [check for check in each.checks if check.assumption == name]
    order = [Seen.FALSE, Seen.HELD, Seen.UNTESTED]
    mine.sort(key=lambda check: order.index(check.seen))
    if not mine:
        return Cell("not reached", "muted", [])
    tone = {Seen.HELD: "good", Seen.FALSE: "bad", Seen.UNTESTED: "muted"}[mine[0].seen]
    return Cell(_WORDS[mine[0].seen], tone, [f"{_WORDS[c.seen]}: {c.what}: {c.value}" for c in mine])
