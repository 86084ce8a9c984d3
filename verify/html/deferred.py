"""Encode proved obligations of a large run as JSON, which the page's script renders when unfolded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Set
from typing import Any

from kexec_verify.html.tree import Kind, Node, Row
from kexec_verify.html.visible import visible
from markupsafe import Markup

MOST = 300
"""Obligations that a page has in full; of a larger run those that are proved are rendered on demand."""


class _Table:
    """Each string once, by its number."""

    def __init__(self) -> None:
        self.strings: list[str] = []
        self.numbers: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        if text not in self.numbers:
            self.numbers[text] = len(self.strings)
            self.strings.append(text)
        return self.numbers[text]


def deferred(
    nodes: Iterable[Node], places: Set[str], hypothesis: Callable[[str], tuple[str, str]]
) -> dict[str, Any]:
    """Return the rows of each kind of obligation that is proved, by the kind's anchor, and their strings.

    :param places: what a link on the page may point to.
    :param hypothesis: the text and the anchor of a hypothesis, by its label.
    """
    table, given = _Table(), _Table()
    kinds: dict[str, list[list[Any]]] = {}
    todo = list(nodes)
    while todo:
        node = todo.pop()
        todo += node.parts
        for kind in node.kinds:
            if may_wait(kind):
                kinds[kind.anchor] = [_row(row, table, given, places) for row in kind.rows]
    labels = []
    for label in given.strings:
        text, anchor = hypothesis(label)
        labels.append([visible(text), anchor if anchor in places else ""])
    return {"strings": [visible(text) for text in table.strings], "given": labels, "kinds": kinds}


def may_wait(kind: Kind) -> bool:
    """Return whether every obligation of the kind is proved, so that the page need not show any at once."""
    return kind.status.tone == "good"


def _row(row: Row, table: _Table, given: _Table, places: Set[str]) -> list[Any]:
    record = row.record
    certificate = row.certificate
    certified = ""
    if certificate is not None:
        detail = certificate.reason or f"SAT proof of {certificate.steps} steps"
        certified = f"certificate: {certificate.status} ({detail})"
    return [
        table(record.sentence),
        row.times,
        int(record.idle),
        row.link.removeprefix("obligations/").removesuffix(".smt2"),
        [table(f"{a.solver}: {a.answer}, {a.seconds * 1000:.0f} ms") for a in record.answers],
        table(record.where),
        table(row.at if row.at in places else ""),
        row.path if f"path-{row.path}" in places else 0,
        len(record.path),
        [given(label) for label in dict.fromkeys(record.hypotheses)],
        [given(label) for label in record.used],
        table(certified),
    ]


def as_script(data: object) -> Markup:
    """Return ``data`` as JSON for a script element: no tag can end or begin in it."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
