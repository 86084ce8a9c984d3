"""The schema of a comparison's result, as plain data."""

from __future__ import annotations

import msgspec
from kexec_verify.verdict import Verdict


class Target(msgspec.Struct, frozen=True):
    """One of the two kernels."""

    name: str
    sha256: str
    version: str | None
    variant: str
    page_size: int


class Hunk(msgspec.Struct, frozen=True):
    """A run of instructions that one kernel has in place of the other's.

    :param old_at: offset in the function of the first, in bytes, and so ``new_at``; as ``symbol+offset``.
    :param old: disassembly of the old instructions, with the bytes; ``new``: of the new.
    """

    old_at: str
    new_at: str
    old: tuple[str, ...]
    new: tuple[str, ...]


class FunctionDiff(msgspec.Struct, frozen=True):
    """One function in both kernels.

    :param state: ``same`` (up to where it and what it names stand), ``changed``, ``only old``, ``only new``.
    :param old_size: bytes, 0 where there is none.
    """

    name: str
    state: str
    old_size: int
    new_size: int
    old_changed: int = 0
    new_changed: int = 0
    hunks: tuple[Hunk, ...] = ()


class ObligationDiff(msgspec.Struct, frozen=True):
    """Obligations of one kind that differ.

    :param state: ``changed``, ``only old`` or ``only new``; ``count``: how many.
    :param bytes_old: the changed instructions of the old kernel that lie on their paths, as
        ``symbol+offset``; and so ``bytes_new``.
    :param cause: in words, where no changed instruction lies on the paths.
    """

    name: str
    sentence: str
    state: str
    count: int
    bytes_old: tuple[str, ...]
    bytes_new: tuple[str, ...]
    cause: str = ""


class PropertyDiff(msgspec.Struct, frozen=True):
    """A property, and the verdict that `verify run` has of either kernel.

    :param old: None if the property is of another ABI variant; and so ``new``.
    :param old_waived: a waiver names all that is REFUTED of it; and so ``new_waived``.
    :param same: how many obligations are equal; the others are counted by their state.
    """

    id: str
    old: Verdict | None
    new: Verdict | None
    same: int
    changed: int
    only_old: int
    only_new: int
    reason: str = ""
    old_waived: bool = False
    new_waived: bool = False


class Effect(msgspec.Struct, frozen=True):
    """One kind of effect and where either kernel has it, as ``symbol+offset``."""

    kind: str
    old: tuple[str, ...]
    new: tuple[str, ...]


class Query(msgspec.Struct, frozen=True):
    """One query of the relation."""

    name: str
    sentence: str
    verdict: Verdict
    model: dict[str, str] = {}


class CaseDiff(msgspec.Struct, frozen=True):
    """The relation in one case.

    :param rests_on: what is assumed of either kernel; ``open``: why it is not proved.
    :param old_way: the functions on the path, one entry for each exception level.
    """

    case: str
    verdict: Verdict
    queries: tuple[Query, ...]
    rests_on: tuple[str, ...]
    open: tuple[str, ...]
    old_way: tuple[str, ...] = ()
    new_way: tuple[str, ...] = ()
    effects: tuple[Effect, ...] = ()


class RunStep(msgspec.Struct, frozen=True):
    """One executed instruction, and the registers that it changed, in words."""

    where: str
    text: str
    changed: dict[str, str]


class Entered(msgspec.Struct, frozen=True):
    """A run of one routine, entered with a head that has IND_DONE.

    :param end: how it ends, in words; ``faults``: by a load or store that no page of the kimage explains.
    :param register: through which it accessed; ``set_at``: the instruction that set it last, if any did.
    """

    label: str
    head: str
    end: str
    faults: bool
    where: str
    steps: tuple[RunStep, ...]
    register: str = ""
    address: str = ""
    set_at: str = ""
    replayed: bool = False


class Finding(msgspec.Struct, frozen=True):
    """One fact that a reviewer should know.

    :param evidence: what it follows from: obligations, a run, or places in the code.
    """

    id: str
    sentence: str
    evidence: tuple[str, ...]


class Comparison(msgspec.Struct, frozen=True):
    """The result of comparing two kernels; times in seconds."""

    old: Target
    new: Target
    functions: tuple[FunctionDiff, ...]
    properties: tuple[PropertyDiff, ...]
    obligations: tuple[ObligationDiff, ...]
    cases: tuple[CaseDiff, ...]
    loading: tuple[Effect, ...]
    entered: tuple[Entered, ...]
    findings: tuple[Finding, ...]
    troubles: tuple[str, ...]
    seconds: float

    @property
    def verdict(self) -> Verdict:
        """Return the relation's verdict, that of its worse case."""
        return max((case.verdict for case in self.cases), key=lambda v: v.rank, default=Verdict.UNKNOWN)
