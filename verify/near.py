"""Names that are similar to one that was not found."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def near(name: str, known: Iterable[str]) -> str:
    """Return the names of ``known`` that are similar to ``name``, to be appended to a message; or nothing."""
    found = get_close_matches(name.replace("*", ""), sorted(set(known)), 3, 0.5)
    return f"; near names: {', '.join(found)}" if found else ""
