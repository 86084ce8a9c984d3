"""Names out of a binary are anybody's text: made harmless for each markup."""

from __future__ import annotations

import re

from kexec_verify.report.plain import plain


def xml(text: str) -> str:
    """Return one line of XML character data, also for an attribute in double quotes."""
    safe = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return safe.replace('"', "&quot;").replace("'", "&apos;")


def code_span(text: str) -> str:
    """Return a Markdown code span: nothing in it is markup, a mention or a link."""
    safe = plain(text)
    longest = max((len(run) for run in re.findall("`+", safe)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if safe[:1] in ("`", " ", "") or safe[-1:] in ("`", " ") else ""
    return f"{fence}{pad}{safe}{pad}{fence}"


def command_data(text: str) -> str:
    """Return the message of a GitHub workflow command."""
    return plain(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def command_property(text: str) -> str:
    """Return the value of a property of a GitHub workflow command."""
    return command_data(text).replace(":", "%3A").replace(",", "%2C")


def description(text: str) -> str:
    """Return a KTAP description: without ``#``, and not like the start of another kind of line."""
    return plain(text).replace("#", "\\x23").strip() or "unnamed"
