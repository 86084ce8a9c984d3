"""run.json: everything that a later report, gate or reader needs of one target's run."""

from __future__ import annotations

from typing import Any

import msgspec

from verify.verdict import Verdict, join

SCHEMA = 1


class SolverAnswer(msgspec.Struct, frozen=True):
    """One solver's answer to one obligation; time in seconds."""

    solver: str
    answer: str
    seconds: float


class ObligationRecord(msgspec.Struct, frozen=True):
    """One obligation: its goal in words, what it supposes, and what came of it.

    ``at`` is the address of the instruction it is about, ``where`` the same as
    symbol+offset/size. ``idle`` says that its path cannot be taken. ``text`` is the file
    of its SMT-LIB script beside run.json, ``sha256`` that script's hash. ``used`` are the
    hypotheses that the proof needed.
    """

    name: str
    sentence: str
    verdict: Verdict
    at: int | None
    where: str
    path: list[int]
    hypotheses: list[str]
    used: list[str]
    idle: bool
    answers: list[SolverAnswer]
    text: str
    sha256: str


class PropertyRecord(msgspec.Struct, frozen=True):
    """One property: verdict, why it is not PROVED, what it assumes and what it is made of."""

    id: str
    theorem: str
    statement: str
    verdict: Verdict
    reason: str
    rests_on: list[str]
    assumptions: list[str]
    seconds: float
    obligations: list[ObligationRecord]
    counterexample: dict[str, Any] | None = None


class AssumptionRecord(msgspec.Struct, frozen=True):
    """An assumption of the run's form: the properties that used it, and values with which it holds.

    ``stated`` says that it is a hypothesis of some obligation; else it is of the environment,
    and no formula speaks of it.
    """

    id: str
    sentence: str
    source: str
    stated: bool
    used_by: list[str]
    witness: dict[str, str]


class PathRecord(msgspec.Struct, frozen=True):
    """A path that proofs are about, and a list on which the real bytes ran along it.

    ``path`` are addresses of instructions from one cutpoint to the next, an inner loop's turn
    taken once. ``witness`` names the list, ``words`` are its head and the words in memory.
    """

    path: list[int]
    witness: str
    words: list[str]


class InstructionRecord(msgspec.Struct, frozen=True):
    """One instruction of the function, as disassembled."""

    address: int
    word: int
    text: str


class FunctionRecord(msgspec.Struct, frozen=True):
    """The function that was verified; ``form`` is how its interface was recognised.

    ``layout`` has byte offsets in struct kimage, and ``layout_from`` who states them.
    """

    name: str
    address: int
    size: int
    sha256: str
    found_by: str
    form: str
    page_size: int
    roles: dict[str, str]
    layout: dict[str, int]
    layout_from: str
    instructions: list[InstructionRecord]


class TargetRecord(msgspec.Struct, frozen=True):
    """Which bytes were verified."""

    name: str
    source: str
    format: str
    sha256: str
    build_id: str | None
    version: str | None


class Run(msgspec.Struct, frozen=True):
    """One target's run; times in seconds, dates in UTC (ISO 8601)."""

    schema: int
    tool: str
    started: str
    seconds: float
    complete: bool
    target: TargetRecord
    function: FunctionRecord
    properties: list[PropertyRecord]
    assumptions: list[AssumptionRecord]
    paths: list[PathRecord]
    versions: dict[str, str]
    stages: dict[str, float]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of its properties."""
        return join(record.verdict for record in self.properties)
