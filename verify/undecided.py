"""Report requested properties that nothing decided as UNSUPPORTED, so that none is missing from a result."""

from __future__ import annotations

from collections.abc import Sequence

from kexec_verify.kexec.abi_variant import AbiVariant
from kexec_verify.kexec.selection import matching
from kexec_verify.specs.properties import PROPERTIES, RELOCATION, Property
from kexec_verify.theorems import Finding, Outcome
from kexec_verify.verdict import Verdict


def account(outcome: Outcome, claims: Sequence[Property], patterns: Sequence[str], is_kernel: bool) -> None:
    """Add to ``outcome`` a finding for each property that had to be decided and was not.

    These are the properties that are about the target, those that were requested by their own name, and all
    that a glob matches if none of them is decided. Other properties that a glob matches become notes.

    :param claims: the properties of the run, with those that they depend on.
    :param patterns: names and globs as the user typed them; none means all that are about the target.
    :param is_kernel: the target is a kernel, not only the routine.
    """
    found = {finding.claim.id for finding in outcome.findings}
    needed = {claim.id for claim in claims if not _reason(claim, outcome.variant, is_kernel)}
    aside: set[str] = set()
    for pattern in patterns:
        matched = set(matching(pattern))
        if pattern in PROPERTIES or not matched & found:
            needed |= matched
        else:
            aside |= matched
    for claim in claims:
        if claim.id in found:
            continue
        reason = _reason(claim, outcome.variant, is_kernel) or "the routine's ABI variant is not recognised"
        if claim.id in needed:
            outcome.findings.append(Finding(claim, Verdict.UNSUPPORTED, reason))
        elif claim.id in aside:
            outcome.notes.append(f"{claim.id} is not decided: {reason}")


def _reason(claim: Property, variant: AbiVariant | None, is_kernel: bool) -> str:
    """Return why the property is not about the target; empty if it is."""
    if not is_kernel and claim not in RELOCATION:
        return "the target is the routine alone, without machine_kexec"
    if variant is not None and claim.variant not in (None, variant.name):
        return f"it is about the ABI variant {claim.variant}, and this routine's is {variant.name}"
    return ""
