"""Keep what is known of two kernels while they are compared."""

from __future__ import annotations

from dataclasses import dataclass, field

from kexec_verify.diff.functions import Matched
from kexec_verify.diff.model import CaseDiff, Effect, Entered
from kexec_verify.diff.side import Side
from kexec_verify.verdict import Verdict


@dataclass
class Found:
    """What is known while a comparison is made.

    :param icache: for either side, whether the instruction cache is invalid at the entry in place.
    """

    old: Side
    new: Side
    matched: Matched
    cases: list[CaseDiff] = field(default_factory=list)
    loading: tuple[Effect, ...] = ()
    entered: list[Entered] = field(default_factory=list)
    icache: dict[str, Verdict] = field(default_factory=dict)
    tests: dict[str, list[str]] = field(default_factory=dict)

    @property
    def sides(self) -> tuple[Side, Side]:
        """Return both sides, the older kernel first."""
        return self.old, self.new
