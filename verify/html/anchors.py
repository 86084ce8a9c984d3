"""Identifiers of elements in the page: the same for the same thing in every run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable


def anchor(kind: str, name: str) -> str:
    """Return an identifier for ``name``.

    Characters that no identifier may have are replaced, and a hash keeps names apart that would become equal.
    """
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-")
    if plain != name:
        plain = f"{plain}-{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:6]}"
    return f"{kind}-{plain}"


def at(address: int) -> str:
    """Return the identifier of the instruction at ``address``."""
    return f"at-{address:x}"


def runs(addresses: Iterable[int]) -> str:
    """Return a path's addresses as runs of consecutive instructions: ``FIRST+COUNT`` in hex and decimal.

    >>> runs([0x1000, 0x1004, 0x1008, 0x2000])
    '1000+3 2000+1'
    """
    found: list[list[int]] = []
    for address in addresses:
        if found and address == found[-1][0] + 4 * found[-1][1]:
            found[-1][1] += 1
        else:
            found.append([address, 1])
    return " ".join(f"{first:x}+{count}" for first, count in found)
