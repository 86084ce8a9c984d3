"""Make names from a binary, which may be any text, harmless for a line of a terminal or a log."""

from __future__ import annotations

import unicodedata

# Control, format (some turn the writing direction), surrogate and unassigned characters, line separators.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def plain(text: str) -> str:
    """Return the text as one line of visible characters; others are written as escapes.

    ``##[`` is split as well: a GitHub runner executes it anywhere in a line of a log.
    """
    shown = "".join(_escape(c) if unicodedata.category(c) in _UNSEEN else c for c in text)
    return shown.replace("##[", "##\\x5b")


def _escape(character: str) -> str:
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    code = ord(character)
    if character in named:
        return named[character]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
