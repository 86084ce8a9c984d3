"""The recorded instructions of a counterexample, of either kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kexec_verify.report.model import Run


@dataclass(frozen=True)
class Point:
    """An instruction of the run that an explanation mentions.

    :param step: its number in the run, counted from 1; 0 where it is not known.
    :param source: ``file:line``, or empty without debug information.
    """

    step: int
    at: int
    where: str
    text: str
    sentence: str
    source: str = ""

    def __str__(self) -> str:
        step = f"step {self.step}, " if self.step else ""
        text = f": {self.text}" if self.text else ""
        source = f" ({self.source})" if self.source else ""
        return f"{step}{self.where}{source}{text}"


@dataclass(frozen=True)
class Step:
    """One executed instruction: number in the run from 1, address, text, and registers that it changed."""

    step: int
    at: int
    where: str
    text: str
    changed: Mapping[str, Any]


def steps_of(run: Run, shown: Mapping[str, Any]) -> list[Step]:
    """Return the recorded steps of a counterexample of either kind."""
    recorded = shown.get("path", shown.get("steps"))
    path = [step for step in recorded if isinstance(step, dict)] if isinstance(recorded, list) else []
    total = shown.get("instructions")
    first = (total if isinstance(total, int) else len(path)) - len(path) + 1
    found = []
    for number, step in enumerate(path, first):
        address, changed = step.get("address"), step.get("changed")
        at = address if isinstance(address, int) else 0
        found.append(
            Step(
                number,
                at,
                str(step.get("where") or where_in(run, at)),
                str(step.get("text", "")),
                changed if isinstance(changed, dict) else {},
            )
        )
    return found


def where_in(run: Run, at: int) -> str:
    """Return the address as symbol+offset/size, if a recorded function holds it."""
    for function in run.functions:
        if function.address <= at < function.address + function.size:
            return f"{function.name}+{at - function.address:#x}/{function.size:#x}"
    return f"{at:#x}"
