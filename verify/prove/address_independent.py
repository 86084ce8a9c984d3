"""Queries without addresses in the names of their symbols."""

from __future__ import annotations

import re

_SYMBOL = re.compile(r"\|[^|]*\|")
_ADDRESS = re.compile(r"0x[0-9a-f]+")
_PLACE = "&"


def address_independent(text: str) -> str:
    """Return an SMT-LIB script with the addresses in its symbols numbered in order of appearance.

    Code at another address then gives the same query, unless a constant depends on the address. Symbols
    are renamed one to one, which changes no answer and no position of an assertion.
    """
    if _PLACE in text:
        return text
    places: dict[str, str] = {}

    def number(address: re.Match[str]) -> str:
        return places.setdefault(address[0], f"{_PLACE}{len(places)}")

    return _SYMBOL.sub(lambda symbol: _ADDRESS.sub(number, symbol[0]), text)
