"""The result of a run command: its exit status, and plain data for JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kexec_verify.cli.interrupt import Interrupted
from kexec_verify.report.model import Run
from kexec_verify.report.read import read_run
from kexec_verify.report.status import status
from kexec_verify.verdict import Verdict, join

MEANINGS = {
    0: "every property is PROVED, or REFUTED and waived",
    1: "a property is REFUTED and not waived",
    2: "usage error or bad input",
    3: "a property is undecided",
    70: "internal fault",
    130: "interrupted by SIGINT",
    143: "interrupted by SIGTERM",
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
    interrupted: int = 0
    """The exit status of an interrupted command; 0 if it was not interrupted."""

    @property
    def exit_status(self) -> int:
        """The worst: internal fault, then refuted, then bad input, then undecided."""
        if self.interrupted:
            return self.interrupted
        statuses = [failure.exit_status for failure in self.failures]
        if self.runs:
            statuses.append(join(run.verdict for _, run in self.runs).exit_status)
        return next((number for number in (70, 1, 2, 3) if number in statuses), 0)

    def as_data(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "exit_status": self.exit_status,
            "meaning": MEANINGS.get(self.exit_status, "interrupted"),
            "targets": [
                *(_target(*found) for found in self.runs),
                *(_failure(each) for each in self.failures),
            ],
        }


def interrupted(
    named: list[str], runs: list[tuple[str, Run]], failures: list[Failure], stop: Interrupted
) -> Result:
    """Return the result of an interrupted command: what it has of its target, and none of those after it.

    :param named: all targets, as typed.
    """
    known = list(runs)
    done = {target for target, _ in runs} | {failure.target for failure in failures}
    left = [target for target in named if target not in done]
    if stop.written is not None:
        known.append((left.pop(0), read_run(stop.written)))
    begun = [*failures, *(Failure(target, "interrupted", stop.exit_status) for target in left)]
    return Result(known, begun, stop.exit_status)


def _target(typed: str, run: Run) -> dict[str, Any]:
    return {
        "target": typed,
        "name": run.target.name,
        "sha256": run.target.sha256,
        "version": run.target.version,
        "verdict": run.verdict,
        "exit_status": run.verdict.exit_status or (0 if run.complete else Verdict.UNKNOWN.exit_status),
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
