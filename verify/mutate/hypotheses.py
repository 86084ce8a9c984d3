"""Mutants of what is supposed: each assumption and invariant dropped in turn.

A hypothesis that can be dropped without any proof failing is no part of the argument; one
that cannot is what the argument leans on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from verify.mutate.model import HypothesisRecord
from verify.prove.discharge import Result, decide
from verify.verdict import Verdict

_BRANCH = "branch "


def drop_each(results: Sequence[Result]) -> Iterator[HypothesisRecord]:
    """What fails without each hypothesis that is not a branch condition of the code.

    :param results: of obligations that are proved.
    """
    proved = [r for r in results if r.verdict is Verdict.PROVED and not r.idle]
    labels = sorted({label for r in proved for label in r.used if not label.startswith(_BRANCH)})
    for label in labels:
        failing: set[str] = set()
        asked: set[str] = set()
        for result in proved:
            # An obligation whose proof did not use the hypothesis has a proof without it.
            if label in result.used and result.digest not in asked:
                asked.add(result.digest)
                owed = result.obligation
                rest = tuple(fact for fact in owed.hypotheses if fact[0] != label)
                if not decide(rest, owed.goal):
                    failing.add(owed.name)
        yield HypothesisRecord(label, len(asked), sorted(failing))
