"""Draw a counterexample's list as boxes and arrows: each entry, its page, and where that is copied to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kexec_verify.html.svg import drawing, tag, text
from markupsafe import Markup

SHOWN = 24  # words; of longer lists the middle is left out
_ROW = 58.0
_WORD = (10.0, 250.0)  # x and width of each column, in pixels
_PAGE = (330.0, 210.0)
_DEST = (640.0, 210.0)
_HEIGHT = 42.0


def list_drawing(
    words: Sequence[Mapping[str, Any]], page_size: int, bad: int | None, phys_offset: int
) -> Markup:
    """Return a drawing of the list from its head to IND_DONE.

    :param words: as recorded; ``page_size``: bytes.
    :param bad: the address, as the routine sees it, that the bad effect is about.
    """
    rows = _rows(words, page_size)
    if len(rows) > SHOWN:
        cut = SHOWN // 2
        left_out = len(rows) - 2 * cut
        shown: list[dict[str, Any] | int] = [*rows[:cut], left_out, *rows[-cut:]]
    else:
        shown = [*rows]
    drawn = [
        text(_WORD[0], 14, "word of the list", class_="head"),
        text(_PAGE[0], 14, "page that it names", class_="head"),
        text(_DEST[0], 14, "page that it is copied to", class_="head"),
    ]
    y = 26.0
    for index, row in enumerate(shown):
        if isinstance(row, int):
            drawn.append(text(_WORD[0], y + 24, f"… {row} words more …", class_="muted"))
        else:
            drawn += _row(row, y, bad, page_size, phys_offset)
        if index + 1 < len(shown):
            x = _WORD[0] + 24
            drawn.append(_line(x, y + _HEIGHT, x, y + _ROW - 1))
        y += _ROW
    label = f"list of {len(words)} words: " + ", ".join(str(word.get("flag")) for word in words[:SHOWN])
    return drawing(_DEST[0] + _DEST[1] + 10, y, label, *drawn, class_="list")


def _rows(words: Sequence[Mapping[str, Any]], page_size: int) -> list[dict[str, Any]]:
    """Return each entry with what the list machine does: a SOURCE goes to the destination, which advances."""
    destination: int | None = None
    found = []
    for word in words:
        row = {**word, "to": None}
        flags = str(word.get("flag", "")).split("|")
        if "SOURCE" in flags and destination is not None:
            row["to"] = destination
            destination += page_size
        elif "DESTINATION" in flags:
            destination = int(word.get("page", 0))
        found.append(row)
    return found


def _row(row: Mapping[str, Any], y: float, bad: int | None, page_size: int, phys_offset: int) -> list[Markup]:
    place = "head" if row.get("address") is None else f"{int(row['address']):#x}"
    flag, value, page = str(row.get("flag")), int(row.get("value", 0)), int(row.get("page", 0))
    drawn = _box(_WORD, y, f"{flag}", f"{value:#x}", f"word {flag.split('|')[0].lower()}", place)
    middle = y + _HEIGHT / 2
    if flag in ("DONE", "none"):
        return drawn

    def is_bad(physical: int) -> bool:
        return (
            bad is not None
            and (physical - phys_offset) % (1 << 64) <= bad < (physical - phys_offset) % (1 << 64) + page_size
        )

    role = "list page, read next" if "INDIRECTION" in flag else "destination from here on"
    kind = "page"
    if row["to"] is not None:
        role, kind = "source page", "page source"
        drawn += _box(
            _DEST,
            y,
            f"{int(row['to']):#x}",
            "destination page",
            "page dest" + (" bad" if is_bad(row["to"]) else ""),
        )
        drawn.append(_line(_PAGE[0] + _PAGE[1], middle, _DEST[0] - 1, middle, "copy"))
        drawn.append(text((_PAGE[0] + _PAGE[1] + _DEST[0]) / 2, middle - 6, "copy", text_anchor="middle"))
    drawn += _box(_PAGE, y, f"{page:#x}", role, kind + (" bad" if is_bad(page) and row["to"] is None else ""))
    drawn.append(_line(_WORD[0] + _WORD[1], middle, _PAGE[0] - 1, middle))
    return drawn


def _box(
    column: tuple[float, float], y: float, first: str, second: str, kind: str, corner: str = ""
) -> list[Markup]:
    x, width = column
    words = [text(x + 10, y + 17, first, class_="name"), text(x + 10, y + 33, second)]
    if corner:
        words.append(text(x + width - 8, y + 17, corner, text_anchor="end", class_="muted"))
    box = tag("rect", x=x, y=y, width=width, height=_HEIGHT, rx=4)
    return [tag("g", box, *words, class_=f"cell {kind}")]


def _line(x: float, y: float, to_x: float, to_y: float, kind: str = "") -> Markup:
    path = f"M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}"
    return tag("path", d=path, class_=f"edge {kind}".strip(), marker_end="url(#arrow)")
