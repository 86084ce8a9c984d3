"""The schema of run.json: everything that a later report, gate or reader needs of one target's run."""

from __future__ import annotations

from typing import Any

import msgspec
from kexec_verify.verdict import Verdict, join
from kexec_verify.waivers import OWN, Failing, names_all

SCHEMA = 4


class SolverAnswer(msgspec.Struct, frozen=True):
    """One solver's answer to one obligation; time in seconds."""

    solver: str
    answer: str
    seconds: float


class ObligationRecord(msgspec.Struct, frozen=True):
    """One obligation: its goal in words, its hypotheses, and its result.

    ``at`` is the address of the instruction it is about, ``where`` the same as symbol+offset/size. ``idle``
    says that its path cannot be taken. ``text`` is the file of its SMT-LIB script next to run.json,
    ``sha256``
    that script's hash. ``used`` are the hypotheses that the proof needed.
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


class WaiverRecord(msgspec.Struct, frozen=True):
    """A declared, accepted deviation: why it is accepted, where that can be read, and what it is.

    ``obligation`` is the name of the obligation that fails, ``sentence`` a glob of its sentence, ``where``
    a glob of its instruction's ``symbol+offset`` (empty for any), ``file`` the file of the waiver.
    """

    reason: str
    reference: str
    obligation: str
    sentence: str
    where: str = ""
    file: str = OWN


class PropertyRecord(msgspec.Struct, frozen=True):
    """One property: verdict, why it is not PROVED, what it assumes and what it is made of.

    ``function`` is the one that it is about, empty for a property of the whole kexec path. ``parts``
    are the properties that a composed one joins. A waiver never changes the verdict: a
    REFUTED property with one is shown as REFUTED (waived) and does not by itself fail a run.
    """

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
    function: str = ""
    parts: list[str] = []
    waiver: WaiverRecord | None = None

    @property
    def waived(self) -> bool:
        """Return whether it is refuted, and its waiver names every deviation."""
        waiver = self.waiver
        return (
            waiver is not None
            and self.verdict is Verdict.REFUTED
            and names_all(waiver.obligation, waiver.sentence, self.failing, waiver.where)
        )

    @property
    def failing(self) -> list[Failing]:
        """Return every obligation that is not proved, in the form that a waiver names."""
        return [(o.name, o.sentence, o.where) for o in self.obligations if o.verdict is not Verdict.PROVED]


class AssumptionRecord(msgspec.Struct, frozen=True):
    """An assumption of the run's ABI variant: the properties that used it, and values with which it holds.

    ``stated`` says that it is a hypothesis of some obligation; else it is of the environment,
    and no formula states it.
    """

    id: str
    sentence: str
    source: str
    stated: bool
    used_by: list[str]
    witness: dict[str, str]


class PathRecord(msgspec.Struct, frozen=True):
    """A path that proofs are about, and what the real bytes were given when they ran along it.

    ``path`` are addresses of instructions from one cutpoint to the next, an inner loop's iteration
    taken once. ``witness`` names the list, ``words`` are its head and the words in memory; of a C
    function it is a call, with what is not as usual at its entry and after its calls.
    """

    path: list[int]
    witness: str
    words: list[str]


class InstructionRecord(msgspec.Struct, frozen=True):
    """One instruction of the function, as disassembled.

    ``then`` are the addresses in the function that control may go to next, ``event`` is what a
    system instruction is called in the model (for one without a meaning: why it has none), and
    ``covered`` says that some path ran it.
    """

    address: int
    word: int
    text: str
    then: list[int] = []
    event: str = ""
    covered: bool = False


class InvariantRecord(msgspec.Struct, frozen=True):
    """A formula that holds at the head of the loop at ``at`` whenever control is there."""

    at: int
    formula: str


class ContractRecord(msgspec.Struct, frozen=True):
    """A callee: what is relied on, and whether that is proved from its bytes or assumed."""

    name: str
    sentence: str
    how: str


class GlobalRecord(msgspec.Struct, frozen=True):
    """A global that the functions under proof read: its address, and how that was found."""

    name: str
    address: int
    found_by: str


class EndRecord(msgspec.Struct, frozen=True):
    """A BUG or WARN in a function under proof, and under which condition control gets there."""

    function: str
    at: int
    where: str
    kind: str
    condition: list[str]


class PatchSiteRecord(msgspec.Struct, frozen=True):
    """Instructions that boot replaces where a choice is set: those where it is not, and those where it is.

    ``meaning`` is what the choice says of the machine, "" if nothing is assumed of it. ``replacement`` is
    empty if a function of the kernel makes the instructions. ``both`` says that the proofs are about each.
    """

    at: int
    choice: str
    meaning: str
    original: list[str]
    replacement: list[str]
    both: bool


class FunctionRecord(msgspec.Struct, frozen=True):
    """The function that was verified; ``form`` is its ABI variant.

    ``layout`` has byte offsets in struct kimage, and ``layout_from`` who states them.
    """

    name: str
    address: int
    size: int
    sha256: str
    found_by: str
    variant: str
    page_size: int
    roles: dict[str, str]
    layout: dict[str, int]
    layout_from: str
    instructions: list[InstructionRecord]
    loops: list[int] = []  # addresses of loop heads, which are cutpoints
    invariants: list[InvariantRecord] = []
    folds_ttbr: bool | None = None  # whether the kernel folds physical addresses for a TTBR
    tests_head: bool | None = None  # whether the routine itself tests head for IND_DONE
    patch_sites: list[PatchSiteRecord] = []


class TargetRecord(msgspec.Struct, frozen=True):
    """Which bytes were verified.

    ``location`` tells files of one name apart: SHA-256 of the file's resolved path, or of ``source`` where
    that is no file, in hexadecimal. It is empty in a run.json of an older version of this tool.
    """

    name: str
    source: str
    format: str
    sha256: str
    build_id: str | None
    version: str | None
    location: str = ""


class Run(msgspec.Struct, frozen=True):
    """One target's run; times in seconds, dates in UTC (ISO 8601).

    ``notes`` are what a reader should know that is no verdict, a sentence each.
    ``queries`` counts queries that went to solvers (``asked``), and those that an earlier run had
    answered (``reused``).
    """

    schema: int
    tool: str
    started: str
    seconds: float
    complete: bool
    target: TargetRecord
    functions: list[FunctionRecord]  # the relocation routine first
    properties: list[PropertyRecord]
    assumptions: list[AssumptionRecord]
    paths: list[PathRecord]
    versions: dict[str, str]
    stages: dict[str, float]
    contracts: list[ContractRecord] = []
    ends: list[EndRecord] = []
    globals: list[GlobalRecord] = []
    queries: dict[str, int] = {}
    notes: list[str] = []

    @property
    def function(self) -> FunctionRecord:
        """Return the relocation routine."""
        return self.functions[0]

    @property
    def verdict(self) -> Verdict:
        """Return the worst verdict of its properties, without waived ones; ``complete`` is not considered."""
        counted = [record.verdict for record in self.properties if not record.waived]
        return join(counted)
