"""The schema of cosim.json: what was compared, how often, and what differed."""

from __future__ import annotations

import msgspec

SCHEMA = 1


class ClassRecord(msgspec.Struct, frozen=True):
    """One opcode class that a target uses.

    ``checked`` is ``unicorn`` or ``table``; ``used`` and ``drawn`` count encodings: those
    of the targets and those made by flipping bits; ``folded`` and ``solved`` count vectors
    that claripy's folding and both solvers also checked.
    """

    mnemonic: str
    shape: str
    checked: str
    used: int
    drawn: int
    vectors: int
    folded: int
    solved: int
    unsupported: list[str]
    mismatches: int
    name: str = ""


class SystemRecord(msgspec.Struct, frozen=True):
    """The sweep of the system instruction space: encodings by result."""

    swept: int
    refused: int
    agreeing: dict[str, int]


class NegativeRecord(msgspec.Struct, frozen=True):
    """Random words and near misses of used ones.

    ``refused`` have no meaning in the engine, ``system`` were compared with the table,
    ``unpredictable`` have no meaning in the architecture, ``unmapped`` are literal loads;
    ``compared`` ran on Unicorn, ``unlisted`` of them are unknown to capstone.
    """

    words: int
    refused: int
    system: int
    unpredictable: int
    unmapped: int
    compared: int
    unlisted: int
    vectors: int


class Report(msgspec.Struct, frozen=True):
    """One co-simulation; time in seconds."""

    schema: int
    tool: str
    seed: int
    seconds: float
    targets: list[str]
    encodings: int
    covered: int
    vectors: int
    classes: list[ClassRecord]
    system: SystemRecord
    negative: NegativeRecord
    mismatches: list[list[str]]
    versions: dict[str, str]

    @property
    def complete(self) -> bool:
        """Return whether every encoding that a target uses was compared with Unicorn or with the table."""
        return self.covered == self.encodings
