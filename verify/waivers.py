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
OWN = "specs/waivers.toml"
"""What reports call the tool's own file of waivers."""

VARIANTS = ("kimage", "registers", "registers, tests head")
_NEEDED = ("property", "variant", "obligation", "sentence", "reason", "reference")
_OPTIONAL = ("where",)
_MAX_SIZE = 1 << 20  # bytes

type Failing = tuple[str, str, str]
"""An obligation that is not proved: its name, its sentence, and symbol+offset/size of its instruction."""


@dataclass(frozen=True)
class Waiver:
    """One accepted deviation: of which property, in which ABI variant of the routine, why, and a reference.

    :param obligation: the name of the obligation that fails.
    :param sentence: a glob of its sentence, in which offsets differ from kernel to kernel.
    :param where: a glob of its instruction, ``symbol+offset``; empty for any instruction.
    :param file: the file that the waiver is from, as a report names it.
    """

    property: str
    variant: str
    obligation: str
    sentence: str
    reason: str
    reference: str
    where: str = ""
    file: str = OWN


def read_waivers(path: Path = FILE) -> list[Waiver]:
    """Return the waivers in ``path``.

    :raises UsageError: for a file that cannot be read, and for a waiver of no known property.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError("no regular file")
        if path.exists() and path.stat().st_size > _MAX_SIZE:
            raise OSError(f"more than {_MAX_SIZE} bytes")
        entries = tomllib.loads(path.read_text()).get("waiver", [])
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: expected a file of waivers, found: {error}") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(f"{path}: expected [[waiver]] tables, found another value called waiver")
    return [_waiver(entry, path) for entry in entries]


def read_all_waivers(paths: Iterable[Path]) -> list[Waiver]:
    """Return the waivers of several files, in their order.

    :raises UsageError: as :func:`read_waivers`.
    """
    return [waiver for path in paths for waiver in read_waivers(path)]


def _waiver(entry: dict[str, object], path: Path) -> Waiver:
    keys = set(entry)
    if not keys.issuperset(_NEEDED) or not keys.issubset((*_NEEDED, *_OPTIONAL)):
        raise UsageError(
            f"{path}: expected the keys {', '.join(_NEEDED)} and perhaps {', '.join(_OPTIONAL)} in a waiver, "
            f"found {', '.join(entry)}"
        )
    values = {key: value for key, value in entry.items() if isinstance(value, str) and value}
    if len(values) < len(entry):
        empty = next(key for key in entry if key not in values)
        raise UsageError(f"{path}: expected a text that is not empty for {empty} in a waiver")
    # A user's file of the same relative name must not pass for the tool's own.
    file = OWN if path == FILE else str(path) if str(path) != OWN else f"./{OWN}"
    waiver = Waiver(**values, file=file)
    if waiver.property not in PROPERTIES:
        raise UsageError(f"{path}: expected a property, found {waiver.property!r}")
    if waiver.variant not in VARIANTS:
        raise UsageError(
            f"{path}: expected one of the variants {'; '.join(VARIANTS)}, found {waiver.variant!r}"
        )
    return waiver


def names_all(obligation: str, sentence: str, failing: Collection[Failing], where: str = "") -> bool:
    """Return whether something fails, and a waiver of these three names all of it.

    A second deviation of the same property is never waived with the first.

    :param where: a glob of the instruction's ``symbol+offset``; empty for any instruction.
    """
    return bool(failing) and all(
        name == obligation
        and fnmatch.fnmatchcase(said, sentence)
        and (not where or fnmatch.fnmatchcase(at.partition("/")[0], where))
        for name, said, at in failing
    )


def waiver_of(
    waivers: Iterable[Waiver], claim: str, variant: str, failing: Collection[Failing]
) -> Waiver | None:
    """Return the waiver for the refuted property ``claim`` in the ABI variant ``variant``, or None.

    :param failing: every obligation of the property that is not proved.
    """
    mine = (w for w in waivers if w.property == claim and w.variant == variant)
    return next((w for w in mine if names_all(w.obligation, w.sentence, failing, w.where)), None)


def unused(waiver: Waiver, verdict: str) -> str:
    """Return the note on a waiver that matches nothing.

    :param verdict: of the waiver's property.
    """
    at = f" at {waiver.where}" if waiver.where else ""
    return (
        f"{waiver.property} is {verdict}: its waiver for {waiver.obligation}{at} in {waiver.file} "
        "matches nothing here"
    )
