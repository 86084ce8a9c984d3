"""Arrange properties as a tree: composed ones with their parts, the rest by theorem, obligations by kind."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kexec_verify.check.model import CertificateRecord
from kexec_verify.html import anchors
from kexec_verify.html.status import Status, group_status, property_status, status
from kexec_verify.report.model import ObligationRecord, PropertyRecord, Run
from kexec_verify.verdict import Verdict, join

_TEXT = re.compile(r"obligations/[0-9a-f]+\.smt2")

TITLES = {
    "T1": "One iteration of the loop is one step of the list machine",
    "T2": "Memory safety",
    "T3": "Destination pages",
    "T4": "Termination",
    "T5": "State at the jump into the new kernel",
    "T6": "An image in place is entered without copying",
    "T7": "What machine_kexec_post_load flushes, copies and prepares",
    "T8": "The whole kexec path",
    "T10": "The list that kexec_core builds",
    "T11": "The tables that the routine runs on",
}


@dataclass(frozen=True)
class Row:
    """One obligation, or several that have the same query and the same words.

    :param times: how many.
    :param link: its SMT-LIB file, if that is a name that a run writes.
    :param at: the place of its instruction in the page.
    :param path: number of the recorded path that it is about, or None.
    :param broken: it is what the property's counterexample breaks.
    """

    record: ObligationRecord
    status: Status
    link: str
    at: str
    path: int | None
    times: int
    certificate: CertificateRecord | None
    broken: bool = False


@dataclass(frozen=True)
class Kind:
    """Obligations of one name."""

    name: str
    anchor: str
    status: Status
    rows: list[Row]

    @property
    def count(self) -> int:
        """Return how many there are."""
        return sum(row.times for row in self.rows)

    @property
    def proved(self) -> int:
        """Return how many are proved."""
        return sum(row.times for row in self.rows if row.record.verdict is Verdict.PROVED)

    @property
    def seconds(self) -> float:
        """Return the solver time of all, with a shared query counted once."""
        return sum(answer.seconds for row in self.rows for answer in row.record.answers)


@dataclass
class Node:
    """A property in the tree.

    :param again: the tree has it already: only a link to it is shown.
    """

    record: PropertyRecord
    status: Status
    anchor: str
    kinds: list[Kind]
    parts: list[Node] = field(default_factory=list)
    again: bool = False


@dataclass(frozen=True)
class Theorem:
    """A theorem with those of its properties that are part of no composed one."""

    id: str
    title: str
    anchor: str
    status: Status
    nodes: list[Node]


def property_anchor(name: str) -> str:
    """Return the identifier of a property in the page."""
    return anchors.anchor("p", name)


def tree(run: Run, certificates: dict[str, CertificateRecord]) -> tuple[list[Node], list[Theorem]]:
    """Return composed properties with their parts, and the other properties by theorem."""
    by_id = {record.id: record for record in run.properties}
    joined = {part for record in run.properties for part in record.parts if part != record.id}
    paths = {tuple(path.path): number for number, path in enumerate(run.paths, 1)}
    seen: set[str] = set()

    def node(record: PropertyRecord) -> Node:
        again = record.id in seen
        seen.add(record.id)
        found = Node(
            record,
            property_status(record),
            property_anchor(record.id),
            [] if again else kinds(record, paths, certificates),
            again=again,
        )
        if not again:
            found.parts = [node(by_id[part]) for part in record.parts if part in by_id]
        return found

    roots = [node(record) for record in run.properties if record.parts and record.id not in joined]
    rest = [record for record in run.properties if record.id not in seen]
    theorems = []
    for name in dict.fromkeys(record.theorem for record in rest):
        mine = [record for record in rest if record.theorem == name]
        theorems.append(
            Theorem(
                name,
                TITLES.get(name, ""),
                anchors.anchor("t", name),
                group_status(mine),
                [node(record) for record in mine if record.id not in seen],
            )
        )
    return roots, theorems


def kinds(
    record: PropertyRecord, paths: dict[tuple[int, ...], int], certificates: dict[str, CertificateRecord]
) -> list[Kind]:
    """Return a property's obligations by name, names with an unproved one first."""
    by_name: dict[str, list[ObligationRecord]] = {}
    for required in record.obligations:
        by_name.setdefault(required.name, []).append(required)
    found = [
        Kind(
            name,
            anchors.anchor("o", f"{record.id}.{name}"),
            status(join(required.verdict for required in listed)),
            _rows(listed, paths, certificates, record.counterexample or {}),
        )
        for name, listed in by_name.items()
    ]
    return sorted(found, key=lambda kind: kind.status.tone == "good")


def _rows(
    listed: Sequence[ObligationRecord],
    paths: dict[tuple[int, ...], int],
    certificates: dict[str, CertificateRecord],
    broken: Mapping[str, Any],
) -> list[Row]:
    """Return the obligations, worst first; paths that differ only after the query share it."""
    equal: dict[tuple[object, ...], list[ObligationRecord]] = {}
    for required in sorted(listed, key=lambda required: -required.verdict.rank):
        query = (
            required.verdict,
            required.sentence,
            required.text,
            required.at,
            tuple(required.path),
            required.idle,
        )
        equal.setdefault(query, []).append(required)
    return [
        Row(
            record=required,
            status=status(required.verdict),
            link=required.text if _TEXT.fullmatch(required.text) else "",
            at=anchors.at(required.at) if required.at is not None else "",
            path=paths.get(tuple(required.path)),
            times=len(same),
            certificate=certificates.get(required.text),
            broken=required.verdict is not Verdict.PROVED
            and (required.sentence, required.at) == (broken.get("obligation"), broken.get("at")),
        )
        for same in equal.values()
        for required in same[:1]
    ]
