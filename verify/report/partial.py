"""Keep what is known of a run that is interrupted: never more than was decided, never green as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
from kexec_verify.arm64.lift import Code
from kexec_verify.prove.discharge import Discharger, Result
from kexec_verify.report.model import Run
from kexec_verify.specs.properties import RELOCATION, Property
from kexec_verify.theorems import Finding, Outcome, has_obligation
from kexec_verify.verdict import Verdict

REASON = "interrupted"


class Partial:
    """Keeps what a run finds, for the case that it is interrupted.

    :param discharger: the run's own; it tells of the obligations that are discharged.
    :param whole: the target is a kernel, and not the routine alone.
    """

    def __init__(self, code: Code, claims: Sequence[Property], discharger: Discharger, whole: bool):
        self._code = code
        self._claims = claims
        self._whole = whole
        self._results: list[Result] = []
        self._known: Outcome | None = None
        discharger.listener = self._results.append

    def known(self, outcome: Outcome) -> None:
        """Record verdicts that only a search for counterexamples may still change."""
        self._known = outcome

    def outcome(self) -> Outcome:
        """Return what was decided; every other property is UNKNOWN."""
        return self._settled(self._known) if self._known else self._unfinished()

    def incomplete(self, run: Run) -> Run:
        """Return the run's record, marked as not finished."""
        return msgspec.structs.replace(run, complete=False)

    def _settled(self, known: Outcome) -> Outcome:
        findings = [
            finding
            if finding.verdict is Verdict.PROVED or finding.counterexample is not None
            else replace(finding, verdict=Verdict.UNKNOWN, reason=f"{REASON}; before that: {finding.reason}")
            for finding in known.findings
        ]
        looked_at = {finding.claim.id for finding in findings}
        variant = known.variant.name if known.variant is not None else None
        findings += [
            Finding(claim, Verdict.UNKNOWN, REASON)
            for claim in self._claims
            if claim.id not in looked_at
            and claim.variant in (None, variant)
            and (self._whole or claim in RELOCATION)
        ]
        return replace(known, findings=findings)

    def _unfinished(self) -> Outcome:
        # No verdict is final before all paths were run, though many of its obligations may be proved.
        findings = []
        for claim in self._claims:
            mine = [result for result in self._results if has_obligation(claim, result.obligation.name)]
            findings.append(Finding(claim, Verdict.UNKNOWN, REASON, mine))
        return Outcome(self._code, None, findings, {})
