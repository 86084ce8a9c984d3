"""Mutate hypotheses: drop and weaken each assumption and invariant, one at a time.

A hypothesis is needed if some proof fails without it. One that can be weakened is stronger than necessary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kexec_verify.logic import Formula
from kexec_verify.mutate.model import HypothesisRecord
from kexec_verify.mutate.weaken import BIT, BOUND, weaker
from kexec_verify.obligation import Facts
from kexec_verify.prove.discharge import Result, decide
from kexec_verify.verdict import Verdict

DROPPED = "dropped"
HOW = (DROPPED, BOUND, BIT)
_BRANCH = "branch "


def change_each(results: Sequence[Result]) -> Iterator[HypothesisRecord]:
    """Yield what fails when each hypothesis that is no branch condition is dropped, and when it is weakened.

    :param results: of obligations that are proved.
    """
    proved = [r for r in results if r.verdict is Verdict.PROVED and not r.idle]
    labels = sorted({label for r in proved for label in r.used if not label.startswith(_BRANCH)})
    for label in labels:
        using = {r.digest: r for r in proved if label in r.used}
        for how in HOW:
            record = _change(label, how, list(using.values()))
            if record.used:
                yield record


def _change(label: str, how: str, using: Sequence[Result]) -> HypothesisRecord:
    """Return what fails if ``label`` is changed so; after a failure other obligations of that name are
    skipped.
    """
    failing: set[str] = set()
    used = 0
    for result in using:
        required = result.obligation
        # An obligation whose proof did not use the hypothesis has a proof without it.
        variants = list(_variants(required.hypotheses, label, how))
        used += bool(variants)
        if required.name not in failing and not all(decide(facts, required.goal) for facts in variants):
            failing.add(required.name)
    return HypothesisRecord(label, used, sorted(failing), how)


def _variants(facts: Facts, label: str, how: str) -> Iterator[Facts]:
    if how == DROPPED:
        yield tuple(fact for fact in facts if fact[0] != label)
        return
    for number, (name, formula) in enumerate(facts):
        if name == label:
            for found in _weakenings(formula, how):
                yield (*facts[:number], (name, found), *facts[number + 1 :])


def _weakenings(formula: Formula, how: str) -> list[Formula]:
    return [found for kind, found in weaker(formula) if kind == how]
