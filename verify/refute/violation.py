"""Record violations in a run: for each property the first effect that breaks it."""

from __future__ import annotations

from dataclasses import dataclass, field

from kexec_verify.arm64.lift import Code


@dataclass(frozen=True)
class Violation:
    """The first effect of a run that breaks a property.

    :param effect: one sentence that names the place; ``at``: address of the instruction.
    :param index: how many effects of the run's log lead up to it, itself included.
    """

    property: str
    effect: str
    at: int
    expected: str
    found: str
    index: int


@dataclass
class Findings:
    """Collects violations of one run, the first of each property.

    :param index: the effect that is being judged, counted from 1.
    """

    code: Code
    index: int = 0
    first: dict[str, Violation] = field(default_factory=dict)

    def broken(
        self, claim: str, at: int, effect: str, expected: str, found: str, index: int | None = None
    ) -> None:
        """Record that an effect breaks ``claim``; ``index`` if it is not the effect being judged."""
        index = self.index if index is None else index
        known = self.first.get(claim)
        if known is None or index < known.index:
            sentence = f"{self.code.where(at)}: {effect}: expected {expected}, found {found}"
            self.first[claim] = Violation(claim, sentence, at, expected, found, index)
