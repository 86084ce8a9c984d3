"""What was proved before, in a file that is reviewed like source: sorted, an item a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from kexec_verify.files import read_record
from kexec_verify.report.model import PropertyRecord, Run
from kexec_verify.report.place import write_whole
from kexec_verify.report.status import status
from kexec_verify.verdict import Verdict

SCHEMA = 1


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A property as it was: its status, what it assumed, and the kinds of obligation it had."""

    status: str
    assumptions: list[str]
    obligations: list[str]

    @property
    def proved(self) -> bool:
        """It was proved, which is what a later run is held to."""
        return self.status == Verdict.PROVED


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One target: SHA-256 of each function's bytes by its name, and its properties by their keys.

    ``variant`` is the routine's ABI variant and ``page_size`` in bytes; empty and 0 in a baseline of
    an older version of this tool, and where the routine was not recognised.
    """

    functions: dict[str, str]
    properties: dict[str, Claim]
    variant: str = ""
    page_size: int = 0


class Baseline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every target that was proved, by name."""

    schema: int
    targets: dict[str, Target]


def key(record: PropertyRecord) -> str:
    """Return the property's name in a baseline; that of one function's property names the function."""
    return f"{record.id}@{record.function}" if record.function else record.id


def baseline_of(runs: Sequence[Run]) -> Baseline:
    """Return the baseline of some runs, sorted by target."""
    return Baseline(
        SCHEMA, {run.target.name: described(run) for run in sorted(runs, key=lambda r: r.target.name)}
    )


def described(run: Run) -> Target:
    """Return a run's target as a baseline has it."""
    functions = {function.name: function.sha256 for function in run.functions}
    claims = {key(record): _claim(record) for record in run.properties}
    variant, page_size = "", 0
    if run.functions:
        routine = run.functions[0]
        # The routine that tests head itself has waivers of its own, so it is another variant here too.
        head = ", tests head" if routine.variant and routine.tests_head else ""
        variant, page_size = f"{routine.variant}{head}", routine.page_size
    return Target(dict(sorted(functions.items())), dict(sorted(claims.items())), variant, page_size)


def _claim(record: PropertyRecord) -> Claim:
    kinds = {obligation.name for obligation in record.obligations}
    return Claim(status(record), sorted(set(record.assumptions)), sorted(kinds | set(record.parts)))


def read_baseline(path: Path) -> Baseline:
    """Return the baseline in ``path``.

    :raises UsageError: if it is none.
    """
    return read_record(path, Baseline, SCHEMA, "baseline")


def write_baseline(baseline: Baseline, path: Path) -> None:
    """Write the baseline so that a diff of two shows one item a line.

    :raises UsageError: if the file cannot be written; an earlier one is left whole.
    """
    write_whole(path, msgspec.json.format(msgspec.json.encode(baseline), indent=1) + b"\n")


def changes(old: Baseline, new: Baseline, counterparts: Mapping[str, str] | None = None) -> list[str]:
    """Return what differs between an old baseline and a new one, a line an item.

    :param counterparts: the old target by each new target's name; without it, those of one name.
    """
    renamed = {was: now for now, was in (counterparts or {}).items() if was not in new.targets}
    lines = [f"! target: {was} -> {now}" for was, now in sorted(renamed.items())]
    old = Baseline(old.schema, {renamed.get(name, name): target for name, target in old.targets.items()})
    before, after = dict(_items(old)), dict(_items(new))
    for item in sorted(before.keys() | after.keys()):
        was, now = before.get(item), after.get(item)
        if was is None:
            lines.append(f"+ {item}: {now}" if now else f"+ {item}")
        elif now is None:
            lines.append(f"- {item}: {was}" if was else f"- {item}")
        elif was != now:
            lines.append(f"! {item}: {was} -> {now}")
    return lines


def _items(baseline: Baseline) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, target in baseline.targets.items():
        found += [(f"{name}: bytes of {function}", sha) for function, sha in target.functions.items()]
        for claim, was in target.properties.items():
            found.append((f"{name}: {claim}", was.status))
            found += [(f"{name}: {claim}: assumes {assumption}", "") for assumption in was.assumptions]
            found += [(f"{name}: {claim}: must prove {kind}", "") for kind in was.obligations]
    return found
