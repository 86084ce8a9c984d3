"""What the kernels of a sweep have in common, and what differs between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kexec_verify.report.status import status
from kexec_verify.sweep.model import Function, Row


@dataclass(frozen=True)
class Group:
    """Kernels (by package) that have the same bytes of a function, and its address in each.

    :param digest: SHA-256 of the bytes.
    """

    digest: str
    size: int
    packages: list[str]
    addresses: list[int]


@dataclass(frozen=True)
class Shape:
    """Return groups that are equal except for addresses; ``digest`` is of the bytes without them."""

    digest: str
    groups: list[Group]

    @property
    def packages(self) -> list[str]:
        """All kernels of its groups."""
        return [package for group in self.groups for package in group.packages]


@dataclass(frozen=True)
class Shared:
    """One function over all kernels that have it: by shape, then by bytes, the most common first."""

    name: str
    kernels: int
    shapes: list[Shape]

    @property
    def contents(self) -> int:
        """How many different bytes there are."""
        return sum(len(shape.groups) for shape in self.shapes)


@dataclass(frozen=True)
class Difference:
    """A property that is not the same everywhere: kernels by status; ``absent`` is one of them."""

    id: str
    statuses: dict[str, list[str]]


ABSENT = "absent"


def shared(rows: Sequence[Row]) -> list[Shared]:
    """Return every function of every kernel by name, in the order in which runs list them."""
    found: dict[str, list[tuple[Row, Function]]] = {}
    for row in rows:
        for function in row.functions:
            found.setdefault(function.name, []).append((row, function))
    return [
        Shared(name, len({label(row) for row, _ in members}), _shapes(members))
        for name, members in found.items()
    ]


type _Members = list[tuple[Row, Function]]


def _shapes(members: _Members) -> list[Shape]:
    shapes = [
        Shape(
            digest,
            _most_common(
                Group(
                    content,
                    same[0][1].size,
                    [label(row) for row, _ in same],
                    [function.address for _, function in same],
                )
                for content, same in _by(alike, lambda member: member[1].sha256).items()
            ),
        )
        for digest, alike in _by(members, lambda member: member[1].unplaced).items()
    ]
    return sorted(shapes, key=lambda shape: -len(shape.packages))


def _most_common(groups: Iterable[Group]) -> list[Group]:
    return sorted(groups, key=lambda group: -len(group.packages))


def _by(members: _Members, key: Callable[[tuple[Row, Function]], str]) -> dict[str, _Members]:
    found: dict[str, _Members] = {}
    for member in members:
        found.setdefault(key(member), []).append(member)
    return found


def differences(rows: Sequence[Row]) -> list[Difference]:
    """Return the properties whose status is not the same in all kernels that have a run."""
    runs = [row for row in rows if not row.error]
    found = []
    for name in dict.fromkeys(cell.id for row in runs for cell in row.properties):
        statuses: dict[str, list[str]] = {}
        for row in runs:
            shown = next((status(cell) for cell in row.properties if cell.id == name), ABSENT)
            statuses.setdefault(shown, []).append(label(row))
        if len(statuses) > 1:
            found.append(Difference(name, statuses))
    return found


def label(row: Row) -> str:
    """Return a kernel's label: its report's name, or its package if it has none."""
    return row.name or row.package
