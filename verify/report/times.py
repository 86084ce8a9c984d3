"""Count what each property's queries cost, with a query that several properties share counted once."""

from __future__ import annotations

from dataclasses import dataclass

from kexec_verify.report.model import Run


@dataclass(frozen=True)
class Cost:
    """Solver time of one property's queries, in seconds of the solvers' processes.

    :param own: of queries that no property before it has; ``shared``: of the others.
    """

    own: float
    shared: float


def costs(run: Run) -> dict[str, Cost]:
    """Return each property's cost by its name; the sum of ``own`` is what all queries cost."""
    seen: set[str] = set()
    found = {}
    for record in run.properties:
        own = shared = 0.0
        mine: set[str] = set()
        for required in record.obligations:
            key = required.sha256 or required.text
            if key in mine:
                continue
            mine.add(key)
            seconds = sum(answer.seconds for answer in required.answers)
            if key in seen:
                shared += seconds
            else:
                own += seconds
        seen |= mine
        found[record.id] = Cost(own, shared)
    return found
