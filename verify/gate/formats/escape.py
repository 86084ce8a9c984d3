"""Names out of a binary are anybody's text: made harmless for a line, and for each markup."""

from __future__ import annotations

import re
import unicodedata

# Control, format (some turn the writing direction), surrogate and unassigned characters, line separators.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def plain(text: str) -> str:
    """The text as one line of characters that are seen; others are written as escapes.

    ``##[`` is taken apart as well: a GitHub runner obeys it anywhere in a line of a log.
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


def xml(text: str) -> str:
    """One line of XML character data, also for an attribute in double quotes."""
    safe = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return safe.replace('"', "&quot;").replace("'", "&apos;")


def code_span(text: str) -> str:
    """A Markdown code span: nothing in it is markup, a mention or a link."""
    safe = plain(text)
    longest = max((len(run) for run in re.findall("`+", safe)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if safe[:1] in ("`", " ", "") or safe[-1:] in ("`", " ") else ""
    return f"{fence}{pad}{safe}{pad}{fence}"


def command_data(text: str) -> str:
    """The message of a GitHub workflow command."""
    return plain(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def command_property(text: str) -> str:
    """The value of a property of a GitHub workflow command."""
    return command_data(text).replace(":", "%3A").replace(",", "%2C")


def description(text: str) -> str:
    """A KTAP description: it can hold no ``#``, and does not start as another kind of line would."""
    return plain(text).replace("#", "\\x23").strip() or "unnamed"
