"""Verdicts, their order and the exit status: the one definition of each."""

from __future__ import annotations

import enum
from collections.abc import Iterable

BLOCKED = "blocked by "
"""What the reason of a property begins with that is undecided only for another property."""


class Verdict(enum.StrEnum):
    """What is known of a property. Only PROVED is green."""

    PROVED = "PROVED"
    """It holds for all inputs under the listed assumptions."""
    VACUOUS = "VACUOUS"
    """Its hypotheses contradict each other, so a proof would say nothing."""
    UNSUPPORTED = "UNSUPPORTED"
    """The code holds something that the verifier has no model for."""
    UNKNOWN = "UNKNOWN"
    """Neither a proof nor a counterexample was found."""
    CONTRADICTED = "CONTRADICTED"
    """It was proved under an assumption that is false on a kernel that was booted (`verify live`)."""
    REFUTED = "REFUTED"
    """A concrete run breaks it."""
    ERROR = "ERROR"
    """The verifier itself failed."""

    @property
    def rank(self) -> int:
        """Return its position from good to bad; a composed property is as bad as its worst part."""
        return list(Verdict).index(self)

    @property
    def exit_status(self) -> int:
        """Return the exit status of ``verify run`` for a run of this verdict.

        >>> Verdict.PROVED.exit_status, Verdict.REFUTED.exit_status, Verdict.UNKNOWN.exit_status
        (0, 1, 3)
        """
        return _EXIT_STATUS[self]


_EXIT_STATUS = {
    Verdict.PROVED: 0,
    Verdict.REFUTED: 1,
    Verdict.VACUOUS: 3,
    Verdict.UNSUPPORTED: 3,
    Verdict.UNKNOWN: 3,
    Verdict.CONTRADICTED: 3,
    Verdict.ERROR: 70,
}


def join(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict of a property made of parts; without parts nothing is known.

    >>> join([Verdict.PROVED, Verdict.UNKNOWN]) is Verdict.UNKNOWN
    True
    """
    return max(verdicts, key=lambda verdict: verdict.rank, default=Verdict.UNKNOWN)
