"""Names of places in the page: the same for the same thing in every run."""

from __future__ import annotations

import hashlib
import re


def anchor(kind: str, name: str) -> str:
    """An identifier for ``name``; characters that no identifier has are replaced, and a hash tells such
    names apart."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-")
    if plain != name:
        plain = f"{plain}-{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:6]}"
    return f"{kind}-{plain}"


def at(address: int) -> str:
    """The identifier of the instruction at ``address``."""
    return f"at-{address:x}"
