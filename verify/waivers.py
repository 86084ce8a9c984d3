"""Declared deviations: a refuted property that is known and accepted, with reason and reference."""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from kexec_verify import specs
from kexec_verify.errors import UsageError
from kexec_verify.specs.properties import PROPERTIES

FILE = Path(next(iter(specs.__path__))) / "waivers.toml"
_KEYS = frozenset({"property", "variant", "obligation", "sentence", "reason", "reference"})

type Failing = tuple[str, str]
"""An obligation that is not proved: its name and its sentence."""


@dataclass(frozen=True)
class Waiver:
    """One accepted deviation: of which property, in which ABI variant, why, and a reference.

    :param obligation: the name of the obligation that fails.
    :param sentence: a glob of its sentence, in which offsets differ from kernel to kernel.
    """

    property: str
    variant: str
    obligation: str
    sentence: str
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


def names_all(obligation: str, sentence: str, failing: Collection[Failing]) -> bool:
    """Something fails, and a waiver of ``obligation`` and ``sentence`` names all of it.

    A second deviation of the same property is never waived with the first.
    """
    return bool(failing) and all(
        name == obligation and fnmatch.fnmatchcase(told, sentence) for name, told in failing
    )


def waiver_of(
    waivers: Iterable[Waiver], claim: str, variant: str, failing: Collection[Failing]
) -> Waiver | None:
    """The waiver for the refuted property ``claim`` in the routine's ABI variant, if there is one.

    :param failing: every obligation of the property that is not proved.
    """
    mine = (w for w in waivers if w.property == claim and w.variant == variant)
    return next((w for w in mine if names_all(w.obligation, w.sentence, failing)), None)
