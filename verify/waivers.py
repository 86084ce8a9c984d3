"""Declared deviations: a refuted property that is known and accepted, with reason and reference."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from specs.properties import PROPERTIES
from verify.errors import UsageError

FILE = Path(__file__).parent.parent / "specs" / "waivers.toml"
_KEYS = frozenset({"property", "form", "reason", "reference"})


@dataclass(frozen=True)
class Waiver:
    """One accepted deviation: of which property, in which form of the routine, why, and a reference."""

    property: str
    form: str
    reason: str
    reference: str


def read_waivers(path: Path = FILE) -> list[Waiver]:
    """The waivers in ``path``.

    :raises UsageError: for a file that cannot be read, and for a waiver of no known property.
    """
    try:
        entries = tomllib.loads(path.read_text()).get("waiver", [])
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: expected a file of waivers, found: {error}") from error
    found = []
    for entry in entries:
        if set(entry) != _KEYS or not all(isinstance(value, str) and value for value in entry.values()):
            keys = ", ".join(sorted(_KEYS))
            raise UsageError(f"{path}: expected the keys {keys} in a waiver, found {', '.join(entry)}")
        waiver = Waiver(**entry)
        if waiver.property not in PROPERTIES:
            raise UsageError(f"{path}: expected a property, found {waiver.property!r}")
        found.append(waiver)
    return found


def waiver_of(waivers: Iterable[Waiver], claim: str, form: str) -> Waiver | None:
    """The waiver for the property ``claim`` in the routine's ``form``, if there is one."""
    return next((w for w in waivers if w.property == claim and w.form == form), None)
