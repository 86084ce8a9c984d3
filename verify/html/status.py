"""Say how a verdict is shown: a word, an icon and a colour, always all three."""

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
    Verdict.CONTRADICTED: "warn",
    Verdict.REFUTED: "bad",
    Verdict.ERROR: "bad",
}
_MEANING = {
    Verdict.PROVED: "It holds for all inputs under the listed assumptions.",
    Verdict.VACUOUS: "Its hypotheses contradict each other, so a proof would say nothing.",
    Verdict.UNSUPPORTED: "The code holds something that the verifier has no model for.",
    Verdict.UNKNOWN: "Neither a proof nor a counterexample was found.",
    Verdict.CONTRADICTED: "A live run has shown that an assumption of its proof is false.",
    Verdict.REFUTED: "A concrete run breaks it.",
    Verdict.ERROR: "The verifier itself failed.",
}
_WAIVED = "A concrete run breaks it, and that is a declared, accepted deviation."


@dataclass(frozen=True)
class Status:
    """How a verdict is shown.

    :param tone: ``good``, ``warn`` or ``bad``: the colour.
    :param icon: name of the icon in the page.
    """

    word: str
    tone: str
    icon: str
    meaning: str


def status(verdict: Verdict, waived: bool = False) -> Status:
    """Return how ``verdict`` is shown; a waived refutation is amber and says that it is waived."""
    if waived:
        return Status(f"{verdict} (waived)", "warn", "waived", _WAIVED)
    icon = "vacuous" if verdict is Verdict.CONTRADICTED else str(verdict).lower()
    return Status(str(verdict), _TONE[verdict], icon, _MEANING[verdict])


def property_status(record: Decided) -> Status:
    """Return how a property's verdict is shown."""
    return status(record.verdict, record.waived)


def group_status(records: Iterable[Decided]) -> Status:
    """Return how the worst verdict of several properties is shown; one that is only waived is not green."""
    listed = list(records)
    verdict = join(record.verdict for record in listed if not record.waived)
    if any(record.waived for record in listed) and verdict in (Verdict.PROVED, Verdict.UNKNOWN):
        if verdict is Verdict.PROVED or all(record.waived for record in listed):
            return status(Verdict.REFUTED, waived=True)
    return status(verdict)


def run_status(records: Sequence[Decided], complete: bool) -> Status:
    """Return how a whole run's verdict is shown."""
    overall = group_status(records)
    if not complete and not any(r.verdict is Verdict.REFUTED and not r.waived for r in records):
        return Status("INCOMPLETE", "warn", "unknown", "The run was cut short.")
    if overall.icon == "waived":
        proved = sum(record.verdict is Verdict.PROVED for record in records)
        waived = sum(record.waived for record in records)
        return Status(f"{proved} PROVED, {waived} WAIVED", "warn", "waived", _WAIVED)
    return overall


_AS_LINKED, _AS_PATCHED = "alternatives-unapplied", "patched-as-tables-say"
WHOLE = "whole kexec path"
ALONE = "relocation routine alone"
SOME = "some properties only"


def scope(run: Run) -> str:
    """Return what the run is about: the whole kexec path, the routine alone, or a selection of properties."""
    if len(run.functions) <= 1:
        return ALONE
    return WHOLE if any(record.id == "kexec-reaches-entry" for record in run.properties) else SOME


@dataclass(frozen=True)
class Headline:
    """The verdict on a whole run: how it is shown, and in two sentences what it means.

    :param scope: what the run is about, in words; ``whole``: that is the whole kexec path.
    :param every_choice: the proofs hold for each way that boot may patch the instructions.
    :param proved: what is proved, for which bytes, under how many assumptions; ``rest``: what is not.
    """

    status: Status
    counts: str
    scope: str
    whole: bool
    every_choice: bool
    proved: str
    rest: str


def headline(run: Run) -> Headline:
    """Return the verdict on ``run``, with waived properties counted apart."""
    waived = sum(record.waived for record in run.properties)
    counted = Counter(record.verdict for record in run.properties if not record.waived)
    shown = [f"{counted[v]} {v}" for v in Verdict if counted[v]]
    shown += [f"{waived} REFUTED (waived)"] if waived else []
    about = scope(run)
    return Headline(
        run_status(run.properties, run.complete),
        ", ".join(shown),
        about,
        about == WHOLE,
        _covers_choices(run),
        _proved(run, counted[Verdict.PROVED], about),
        _rest(run, counted, waived, about),
    )


def _covers_choices(run: Run) -> bool:
    """Return whether the proofs hold for each way that boot may patch what they are about."""
    used = {assumption.id for assumption in run.assumptions if assumption.used_by}
    return _AS_PATCHED in used and _AS_LINKED not in used


def _proved(run: Run, proved: int, about: str) -> str:
    total = len(run.properties)
    used = sum(bool(assumption.used_by) for assumption in run.assumptions)
    under = f"under {used} assumption{'s' if used != 1 else ''}"
    under = f"for every choice that boot makes, {under}" if _covers_choices(run) else under
    count = f"{proved} of {total}" if proved != total or total == 1 else f"all {total}"
    noun = "property" if total == 1 else "properties"
    place = {ALONE: " of the relocation routine", WHOLE: " of the whole kexec path"}.get(about, "")
    if not proved:
        return f"Nothing is proved{place} for the bytes with SHA-256 {run.target.sha256[:12]}…."
    return f"Proved: {count} {noun}{place} for the bytes with SHA-256 {run.target.sha256[:12]}…, {under}."


def _rest(run: Run, counted: Counter[Verdict], waived: int, about: str) -> str:
    """Return what is not proved, the worst first, and what the run does not cover."""
    refuted = counted[Verdict.REFUTED]
    unsure = len(run.properties) - waived - refuted - counted[Verdict.PROVED]
    assumed = sum(contract.how == "assumed" for contract in run.contracts)
    parts = []
    if not run.properties:
        parts.append("the run looked at no property")
    if refuted:
        parts.append(f"{refuted} refuted by a concrete run")
    if unsure:
        parts.append(f"{unsure} undecided")
    if waived:
        parts.append(f"{waived} refuted and waived (a deviation that is accepted)")
    if not run.complete:
        parts.append("the run was cut short")
    if assumed:
        parts.append(f"{assumed} callee{'s' if assumed != 1 else ''} assumed")
    if about == ALONE:
        parts.append("machine_kexec, machine_kexec_post_load and the rest of the path are not in this run")
    elif about == SOME:
        parts.append("the run left out other properties of the kexec path")
    if not _covers_choices(run):
        parts.append("what boot patches on some machines only")
    return f"Not proved: {'; '.join(parts) or 'nothing of what was asked for'}."
