"""The record of a mutation run, as plain data."""

from __future__ import annotations

import msgspec

SCHEMA = 1


class MutantRecord(msgspec.Struct, frozen=True):
    """One mutant of a ``function`` and its result.

    ``outcome`` is ``refuted`` (``why`` is the bad effect), ``unsupported`` (it can be neither run
    nor proved, because a model is missing), ``equivalent`` (every property is proved of it) or
    ``survivor`` (it runs without a fault on every list tried, and is not proved).
    ``verdict`` is the prover's, if it was run.
    """

    kind: str
    at: int
    where: str
    edit: str
    outcome: str
    why: str
    verdict: str
    seconds: float
    function: str = ""


class HypothesisRecord(msgspec.Struct, frozen=True):
    """A hypothesis dropped or weakened: how many proofs used it, and the obligations that then do not follow.

    :param how: ``dropped``, or how it is weaker.
    :param used: proofs that used it and in which it could be changed so.
    """

    label: str
    used: int
    failing: list[str]
    how: str = "dropped"


class FaultRecord(msgspec.Struct, frozen=True):
    """An error of the verifier's own, and the probe that noticed it; empty if none did."""

    fault: str
    noticed: str


class MutationRun(msgspec.Struct, frozen=True):
    """Results for mutants of a kernel's functions, of proofs without a hypothesis, of errors in the tool.

    :param possible: how many mutants there are; ``seconds``: with those of interrupted runs before.
    :param functions: how many there are of each function, of those that were chosen.
    :param skipped: phases that were left out on request; their lists are empty for that reason.
    """

    schema: int
    target: str
    sha256: str
    seed: int
    possible: int
    seconds: float
    mutants: list[MutantRecord]
    hypotheses: list[HypothesisRecord]
    faults: list[FaultRecord]
    functions: dict[str, int] = {}
    skipped: list[str] = []

    def count(self, outcome: str) -> int:
        """Return how many mutants had this outcome."""
        return sum(mutant.outcome == outcome for mutant in self.mutants)
