"""Identifiers of elements in the page: the same for the same thing in every run."""

from __future__ import annotations

import hashlib
import re


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
