"""Draw bars of time for each stage, and a run's time and verdict over earlier runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kexec_verify.html.history import Entry, entry_status
from kexec_verify.html.svg import drawing, tag, text
from markupsafe import Markup

_BAR = 300.0
_ROW = 22.0
_LABEL = 190.0


def bars(seconds: Mapping[str, float], label: str) -> Markup:
    """Return horizontal bars, longest for the largest; ``seconds`` by name."""
    most = max(seconds.values(), default=0.0) or 1.0
    drawn = []
    for row, (name, value) in enumerate(seconds.items()):
        y = row * _ROW
        drawn.append(text(_LABEL - 10, y + 15, name, text_anchor="end"))
        width = max(_BAR * value / most, 1.0)
        drawn.append(tag("rect", x=_LABEL, y=y + 4, width=width, height=_ROW - 8, rx=2, class_="bar"))
        drawn.append(text(_LABEL + width + 6, y + 15, f"{value:.2f} s", class_="muted"))
    return drawing(_LABEL + _BAR + 70, max(len(seconds), 1) * _ROW + 4, label, *drawn, class_="chart")


def trend(entries: Sequence[Entry]) -> Markup:
    """Return the time of each run, oldest first, as bars in the colour of its verdict."""
    most = max((entry.seconds for entry in entries), default=0.0) or 1.0
    width, height = 14.0, 80.0
    drawn = []
    for column, entry in enumerate(entries):
        tall = max(height * entry.seconds / most, 3.0)
        title = tag("title", f"{entry.started}: {entry.verdict}, {entry.seconds:.1f} s")
        box = tag(
            "rect", title, x=4 + column * (width + 4), y=height - tall + 4, width=width, height=tall, rx=2
        )
        drawn.append(
            tag(
                "g",
                box,
                class_=f"bar {entry_status(entry).tone}",
            )
        )
    label = f"time of {len(entries)} runs, at most {most:.1f} s"
    return drawing(8 + len(entries) * (width + 4), height + 8, label, *drawn, class_="chart")
