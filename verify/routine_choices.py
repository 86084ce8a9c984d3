"""The proofs of a routine as boot patches it, one for each set of choices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
from kexec_verify.arm64.lift import Code
from kexec_verify.errors import LimitError, UnsupportedError
from kexec_verify.kexec.choices import Variant, name_of, said_where, sites_of, variants
from kexec_verify.refute.counterexample import Counterexample
from kexec_verify.refute.patched import patched, recorded
from kexec_verify.specs.assumptions import ASSUMPTIONS
from kexec_verify.target import Kernel
from kexec_verify.theorems import Finding, Outcome, RoutineProof
from kexec_verify.verdict import Verdict


class RoutineChoices:
    """The proofs of the variants that boot makes of the routine. Creating it sends every query.

    :param linked: the proof of the routine as it is linked.
    :param prove: starts the proof of a variant's code.
    :ivar proofs: the variants and their proofs.
    :ivar both: patch sites that are proved for each way they may be, and the choice.
    """

    def __init__(self, kernel: Kernel, linked: RoutineProof, prove: Callable[[Code], RoutineProof]):
        self._linked = linked
        self._trouble: UnsupportedError | LimitError | None = None
        self.proofs: list[tuple[Variant, RoutineProof]] = []
        self.both = {site.address: name_of(kernel, site) for site in sites_of(kernel, linked.code)}
        try:
            for variant in variants(kernel, linked.code):
                self.proofs.append((variant, prove(_as_patched(linked.code, variant))))
        except (UnsupportedError, LimitError) as error:
            self._trouble = error

    def finish(self, outcome: Outcome) -> None:
        """Add the results to the outcome of the routine as linked: a property must hold of each variant."""
        if self._trouble is not None:
            unsupported = isinstance(self._trouble, UnsupportedError)
            names = ", ".join(sorted(set(self.both.values())))
            verdict = Verdict.UNSUPPORTED if unsupported else Verdict.UNKNOWN
            _lower(outcome, verdict, said_where(names) + str(self._trouble))
        for variant, proof in self.proofs:
            other = proof.finish()
            if proof.trouble is None and proof.variant != self._linked.variant:
                why = "the routine then has another ABI variant"
                _lower(outcome, Verdict.UNSUPPORTED, said_where(variant.title) + why)
                continue
            for path, scenario in other.paths.items():
                outcome.paths.setdefault(path, scenario)
            by_id = {finding.claim.id: finding for finding in other.findings}
            for finding in outcome.findings:
                if finding.claim.id in by_id:
                    _add(finding, by_id[finding.claim.id], variant)


def _as_patched(code: Code, variant: Variant) -> Code:
    data = patched(code.data, code.address, recorded(variant.words))
    return Code(code.name, code.address, data, unknown=code.unknown)


def _lower(outcome: Outcome, verdict: Verdict, reason: str) -> None:
    """Say of each property that it is not proved for every choice."""
    for finding in outcome.findings:
        if finding.verdict is Verdict.PROVED:
            finding.verdict, finding.reason = verdict, reason


def _add(finding: Finding, other: Finding, variant: Variant) -> None:
    """Make *finding* about a variant too, of which *other* is the finding."""
    said = said_where(variant.title)
    asked = {(result.obligation.name, result.text) for result in finding.results}
    for result in other.results:
        if (result.obligation.name, result.text) not in asked:
            obligation = replace(result.obligation, sentence=said + result.obligation.sentence)
            finding.results.append(replace(result, obligation=obligation))
    used = {*finding.assumptions, *other.assumptions}
    finding.assumptions = [name for name in ASSUMPTIONS if name in used]
    if other.verdict.rank > finding.verdict.rank:
        finding.verdict, finding.blocked_by = other.verdict, other.blocked_by
        finding.reason = other.reason if other.blocked_by else said + other.reason
        finding.counterexample = other.counterexample
        if isinstance(other.counterexample, Counterexample):
            finding.counterexample = msgspec.structs.replace(
                other.counterexample,
                choices=tuple(sorted(variant.choices)),
                patched=recorded(variant.words),
            )
