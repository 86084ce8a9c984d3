"""What a run command came to: its exit status, and the same for a script."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kexec_verify.report.model import Run
from kexec_verify.report.status import status
from kexec_verify.verdict import join

MEANINGS = {
    0: "every property is PROVED, or REFUTED and waived",
    1: "a property is REFUTED and not waived",
    2: "usage error or bad input",
    3: "a property is undecided",
    70: "internal fault",
}


@dataclass(frozen=True)
class Failure:
    """A target that was not verified: why, and the exit status of that."""

    target: str
    error: str
    exit_status: int


@dataclass(frozen=True)
class Result:
    """The runs of a command, each with the target as it was typed, and the targets without one."""

    runs: list[tuple[str, Run]]
    failures: list[Failure]

    @property
    def exit_status(self) -> int:
        """The worst: internal fault, then refuted, then bad input, then undecided."""
        statuses = [failure.exit_status for failure in self.failures]
        if self.runs:
            statuses.append(join(run.verdict for _, run in self.runs).exit_status)
        return next((number for number in (70, 1, 2, 3) if number in statuses), 0)

    def as_data(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "exit_status": self.exit_status,
            "meaning": MEANINGS[self.exit_status],
            "targets": [
                *(_target(*found) for found in self.runs),
                *(_failure(each) for each in self.failures),
            ],
        }


def _target(typed: str, run: Run) -> dict[str, Any]:
    return {
        "target": typed,
        "name": run.target.name,
        "sha256": run.target.sha256,
        "version": run.target.version,
        "verdict": run.verdict,
        "exit_status": run.verdict.exit_status,
        "complete": run.complete,
        "seconds": run.seconds,
        "properties": [
            {
                "id": record.id,
                "verdict": record.verdict,
                "status": status(record),
                "waived": record.waived,
                "reason": record.reason,
            }
            for record in run.properties
        ],
    }


def _failure(failure: Failure) -> dict[str, Any]:
    return {"target": failure.target, "error": failure.error, "exit_status": failure.exit_status}
