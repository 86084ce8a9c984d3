"""Draw the pages that a counterexample touches, by address, with the gaps between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kexec_verify.html.svg import drawing, tag, text
from markupsafe import Markup

_ROW = 26.0
_WIDTH, _NARROW = 620.0, 400.0  # with and without a column of physical addresses
_GAP = 20.0
_KINDS = {"destination": "dest", "source": "source", "list": "indirection"}


def memory_map(pages: Sequence[Mapping[str, Any]], page_size: int, bad: int | None) -> Markup:
    """Return a strip of pages, low addresses first.

    :param pages: as recorded; ``bad``: the address, as the routine sees it, of the bad effect.
    """
    physically = any("physical" in page for page in pages)
    width, role_at = (_WIDTH, 300.0) if physically else (_NARROW, 160.0)
    drawn = [
        text(0, 14, "seen at", class_="head"),
        *([text(160, 14, "physical", class_="head")] if physically else []),
        text(role_at, 14, "used as", class_="head"),
    ]
    y, end = 24.0, None
    for page in sorted(pages, key=lambda p: int(p.get("seen", 0))):
        seen, physical = int(page.get("seen", 0)), int(page.get("physical", 0))
        if end is not None and seen > end:
            drawn.append(text(role_at, y + 13, f"… {_size(seen - end)} …", class_="muted"))
            y += _GAP
        end = seen + page_size
        roles = [str(role) for role in page.get("roles", ())]
        kind = next((_KINDS[role] for role in roles if role in _KINDS), "")
        hit = bad is not None and seen <= bad < end
        words = [
            text(10, y + 17, f"{seen:#x}"),
            *([text(160, y + 17, f"{physical:#x}")] if physically else []),
            text(
                role_at,
                y + 17,
                ", ".join(roles) + (f"; bad effect at +{bad - seen:#x}" if hit and bad else ""),
            ),
        ]
        box = tag("rect", x=1, y=y, width=width, height=_ROW - 2, rx=3)
        drawn.append(tag("g", box, *words, class_=f"cell page {kind}{' bad' if hit else ''}"))
        y += _ROW
    return drawing(width + 4, y + 4, f"memory map: {len(pages)} pages", *drawn, class_="map")


def _size(count: int) -> str:
    """Return a number of bytes in the unit that fits."""
    for unit, size in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.{0 if count % size == 0 or count >= 10 * size else 1}f} {unit}"
    return f"{count} bytes"
