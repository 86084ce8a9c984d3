"""How a verdict is shown: a word, an icon and a colour, always all three."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kexec_verify.report.model import Run
from kexec_verify.report.status import Decided
from kexec_verify.verdict import Verdict, join

_TONE = {
    Verdict.PROVED: "good",
    Verdict.VACUOUS: "warn",
    Verdict.UNSUPPORTED: "warn",
    Verdict.UNKNOWN: "warn",
    Verdict.REFUTED: "bad",
    Verdict.ERROR: "bad",
}
_MEANING = {
    Verdict.PROVED: "It holds for all inputs under the listed assumptions.",
    Verdict.VACUOUS: "Its hypotheses contradict each other, so a proof would say nothing.",
    Verdict.UNSUPPORTED: "The code holds something that the verifier has no model for.",
    Verdict.UNKNOWN: "Neither a proof nor a counterexample was found.",
    Verdict.REFUTED: "A concrete run breaks it.",
    Verdict.ERROR: "The verifier itself failed.",
}
_WAIVED = "A concrete run breaks it, and that is a declared, accepted deviation."


@dataclass(frozen=True)
class Status:
    """A verdict for the eye.

    :param tone: ``good``, ``warn`` or ``bad``: the colour.
    :param icon: name of the icon in the page.
    """

    word: str
    tone: str
    icon: str
    meaning: str


def status(verdict: Verdict, waived: bool = False) -> Status:
    """How ``verdict`` is shown; a waived refutation is amber and says that it is one."""
    if waived:
        return Status(f"{verdict} (waived)", "warn", "waived", _WAIVED)
    return Status(str(verdict), _TONE[verdict], str(verdict).lower(), _MEANING[verdict])


def property_status(record: Decided) -> Status:
    """How a property's verdict is shown."""
    return status(record.verdict, record.waived)


def group_status(records: Iterable[Decided]) -> Status:
    """How several properties' worst verdict is shown; one that is only waived is not green."""
    listed = list(records)
    verdict = join(record.verdict for record in listed if not record.waived)
    if any(record.waived for record in listed) and verdict in (Verdict.PROVED, Verdict.UNKNOWN):
        if verdict is Verdict.PROVED or all(record.waived for record in listed):
            return status(Verdict.REFUTED, waived=True)
    return status(verdict)


def run_status(records: Sequence[Decided], complete: bool) -> Status:
    """How a whole run's verdict is shown."""
    overall = group_status(records)
    if not complete and not any(r.verdict is Verdict.REFUTED and not r.waived for r in records):
        return Status("INCOMPLETE", "warn", "unknown", "The run was cut short.")
    if overall.icon == "waived":
        proved = sum(record.verdict is Verdict.PROVED for record in records)
        waived = sum(record.waived for record in records)
        return Status(f"{proved} PROVED, {waived} WAIVED", "warn", "waived", _WAIVED)
    return overall


@dataclass(frozen=True)
class Headline:
    """The verdict on a whole run: how it is shown, and in one sentence what it means."""

    status: Status
    counts: str
    sentence: str


def headline(run: Run) -> Headline:
    """The verdict on ``run``, waived properties counted apart."""
    total = len(run.properties)
    waived = sum(record.waived for record in run.properties)
    counted = Counter(record.verdict for record in run.properties if not record.waived)
    proved, refuted = counted[Verdict.PROVED], counted[Verdict.REFUTED]
    unsure = total - waived - proved - refuted
    shown = [f"{counted[v]} {v}" for v in Verdict if counted[v]]
    shown += [f"{waived} REFUTED (waived)"] if waived else []
    overall = run_status(run.properties, run.complete)
    parts = []
    if not total:
        parts.append("The run looked at no property, so it says nothing.")
    elif refuted:
        parts.append(
            f"{_of(refuted, total)} {'is' if refuted == 1 else 'are'} broken by a concrete run, shown below."
        )
        parts.append(f"{proved} proved, {unsure} undecided.")
    elif unsure:
        parts.append(f"{_of(unsure, total)} {'is' if unsure == 1 else 'are'} not proved, and not refuted.")
        parts.append("Nothing may be relied on there.")
    elif proved and not run.complete:
        parts.append(f"{_of(proved, total)} {'was' if proved == 1 else 'were'} proved.")
    elif proved:
        every = "All" if proved == total else f"{proved} of"
        noun = "property holds" if total == 1 else "properties hold"
        parts.append(f"{every} {total} {noun} of these bytes for every input that the assumptions allow.")
    if waived:
        parts.append(
            f"{_of(waived, total)} {'is' if waived == 1 else 'are'} broken, as a declared deviation."
        )
    if not run.complete:
        parts.append("The run was cut short: what it had not decided is UNKNOWN.")
    return Headline(overall, ", ".join(shown), " ".join(parts))


def _of(count: int, total: int) -> str:
    return f"{count} of {total} properties" if total != 1 else "The property"
