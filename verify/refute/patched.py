"""Instructions that boot writes over code, as a counterexample records them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

type Words = tuple[tuple[int, str], ...]
"""Addresses, and the bytes that stand there, in hexadecimal."""


def recorded(words: Mapping[int, bytes]) -> Words:
    """Return bytes by address as a counterexample records them."""
    return tuple((at, new.hex()) for at, new in sorted(words.items()))


def patched(data: bytes, address: int, words: Iterable[tuple[int, str]]) -> bytes:
    """Return the code at *address* with what boot writes there; what lies elsewhere is left out."""
    out = bytearray(data)
    for at, text in words:
        new = bytes.fromhex(text)
        if address <= at and at + len(new) <= address + len(data):
            out[at - address : at - address + len(new)] = new
    return bytes(out)
