"""The gate's decision on finished runs, by a baseline, a policy and the tool's own waivers."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from kexec_verify.gate.baseline import Baseline, Claim, Target, described, key
from kexec_verify.gate.counterpart import counterparts
from kexec_verify.gate.policy import Policy, matches
from kexec_verify.mutate.model import MutationRun
from kexec_verify.report.grounds import unproved
from kexec_verify.report.live_model import LiveRun, Seen
from kexec_verify.report.model import PropertyRecord, Run
from kexec_verify.report.status import status
from kexec_verify.verdict import Verdict
from kexec_verify.waivers import Waiver, read_waivers, unused

NOT_IN_BASELINE = "no target of the baseline is of this name, or of this flavour, ABI variant and page size"
"""Why a run fails that has nothing to be compared with."""


class Rule(enum.StrEnum):
    """What a gate fails on, the worst first."""

    ERROR = "error"
    """The verifier failed."""
    REFUTED = "refuted"
    """A concrete run breaks a property, and no waiver covers it."""
    BINARY = "binary"
    """The binary at hand is not the one that was verified."""
    MISSING = "missing"
    """What the baseline has or the policy requires is not in the runs, or a run is not in the baseline."""
    WEAKER = "weaker"
    """A property was proved in the baseline and is now not, or from fewer kinds of obligation."""
    ASSUMPTION = "assumption"
    """A proof relies on an assumption that neither baseline nor policy allows."""
    WAIVER = "waiver"
    """A refutation is waived, and the policy does not allow that."""
    CODE = "code"
    """A function's bytes are not the baseline's, and the policy wants the same."""
    MUTANTS = "mutants"
    """Seeded faults were not run, not on this binary, or not refuted."""
    LIVE = "live"
    """Live runs were wanted, and there are none, or one of them failed."""
    INCOMPLETE = "incomplete"
    """The run was interrupted, or has no property at all."""
    VACUOUS = "vacuous"
    """A proof says nothing, for its hypotheses contradict each other."""
    UNDECIDED = "undecided"
    """Neither a proof nor a counterexample was found."""

    @property
    def exit_status(self) -> int:
        """What the gate exits with for it."""
        if self is Rule.ERROR:
            return 70
        return 3 if self in (Rule.INCOMPLETE, Rule.VACUOUS, Rule.UNDECIDED) else 1


class Reason(msgspec.Struct, frozen=True):
    """One reason for which a gate fails; ``property`` is empty where it is about a whole target.

    ``entry`` is the assumption, or the file of the waiver, that is not allowed; empty for other rules.
    """

    rule: Rule
    target: str
    property: str
    message: str
    entry: str = ""


class Decision(msgspec.Struct, frozen=True):
    """Whether the gate is passed, the exit status, and every reason against it, the worst first.

    ``notes`` fail nothing: which baseline target a run is compared with, and waivers that match nothing.
    """

    passed: bool
    exit_status: int
    reasons: list[Reason]
    notes: list[str] = []


@dataclass(frozen=True)
class Evidence:
    """One run, and the files next to it.

    :param path: of its run.json.
    :param binary: SHA-256 of the binary at hand, unpacked; None if none was given.
    :param mutation: from mutation.json next to run.json; None if there is none.
    :param live: from live.json next to run.json, of the same bytes; None if there is none.
    """

    run: Run
    path: Path
    binary: str | None = None
    mutation: MutationRun | None = None
    live: LiveRun | None = None


def decide(
    evidence: Sequence[Evidence],
    policy: Policy,
    baseline: Baseline | None = None,
    waivers: Sequence[Waiver] = (),
    baseline_target: str = "",
) -> Decision:
    """Return the decision on some runs.

    :param waivers: those that are allowed in addition to the tool's own, where the policy has no list.
    :param baseline_target: the baseline target that the one run is compared with; empty to find it.
    :raises UsageError: if it is not clear which baseline target a run is compared with.
    """
    pairs = counterparts([item.run for item in evidence], baseline, baseline_target) if baseline else {}
    allowed = [*read_waivers(), *waivers]
    found: list[Reason] = []
    for item in evidence:
        name = item.run.target.name
        before = baseline.targets[pairs[name]] if baseline and name in pairs else None
        found += _of_run(item, policy, allowed)
        found += _assumptions(item.run, policy, before)
        if before is not None:
            found += _regressions(item.run, before, policy)
        elif baseline is not None:
            found.append(Reason(Rule.MISSING, name, "", NOT_IN_BASELINE))
        found += _mutants(item, policy)
        found += _live(item, policy)
    for name in sorted(baseline.targets.keys() - set(pairs.values())) if baseline else ():
        message = "in the baseline, and no run is of it or of another version of it"
        found.append(Reason(Rule.MISSING, name, "", message))
    rank = list(Rule)
    found.sort(key=lambda reason: rank.index(reason.rule))
    statuses = {reason.rule.exit_status for reason in found}
    # As in `verify run`: an internal fault outranks all, a refutation outranks an undecided claim.
    worst = next((one for one in (70, 1, 3) if one in statuses), 0)
    notes = [f"{name} is compared with {was} of the baseline" for name, was in pairs.items() if was != name]
    notes += _unused([item.run for item in evidence], waivers)
    return Decision(not found, worst, found, notes)


def _unused(runs: Sequence[Run], waivers: Sequence[Waiver]) -> Iterator[str]:
    """Yield a note on each waiver that no run uses."""
    records = [record for run in runs for record in run.properties]
    for waiver in waivers:
        mine = [record for record in records if record.id == waiver.property]
        if not any(record.waived and _is(record, waiver) for record in mine):
            verdicts = sorted({str(record.verdict) for record in mine})
            yield unused(waiver, " or ".join(verdicts) or "not in the runs")


def _is(record: PropertyRecord, waiver: Waiver) -> bool:
    """Return whether the record's waiver is this one, whatever file it is from."""
    used = record.waiver
    return used is not None and (
        (waiver.property, waiver.obligation, waiver.sentence, waiver.where)
        == (record.id, used.obligation, used.sentence, used.where)
    )


def _of_run(item: Evidence, policy: Policy, waivers: Sequence[Waiver]) -> Iterator[Reason]:
    """Yield the reasons that a run itself gives against it."""
    run = item.run
    name = run.target.name
    if item.binary is not None and item.binary != run.target.sha256:
        found = f"expected the binary with SHA-256 {run.target.sha256}, found {item.binary}"
        yield Reason(Rule.BINARY, name, "", found)
    if not run.complete:
        yield Reason(Rule.INCOMPLETE, name, "", "the run was interrupted")
    if not run.properties:
        yield Reason(Rule.INCOMPLETE, name, "", "the run has no property")
    for glob in policy.required:
        if not any(matches(record.id, [glob]) for record in run.properties):
            yield Reason(Rule.MISSING, name, glob, "required by the policy, and the run has none such")
    for record in run.properties:
        yield from _of_property(run, record, policy, waivers)


def _allows_waiver(policy: Policy, record: PropertyRecord, waivers: Sequence[Waiver]) -> bool:
    """Return whether the policy lists the property or, without a list, ``waivers`` has the waiver."""
    if policy.waivers is not None:
        return matches(record.id, policy.waivers)
    return any(_is(record, waiver) for waiver in waivers)


def _of_property(
    run: Run, record: PropertyRecord, policy: Policy, waivers: Sequence[Waiver]
) -> Iterator[Reason]:
    target = run.target.name
    verdict, name = record.verdict, key(record)
    if record.waived:
        if not _allows_waiver(policy, record, waivers):
            reason, file = (record.waiver.reason, record.waiver.file) if record.waiver else ("", "")
            message = f"waived ({reason}), and the policy does not allow it"
            yield Reason(Rule.WAIVER, target, name, message, file)
    elif verdict is Verdict.REFUTED:
        yield Reason(Rule.REFUTED, target, name, record.reason)
    elif verdict is Verdict.ERROR:
        yield Reason(Rule.ERROR, target, name, record.reason)
    elif verdict is Verdict.VACUOUS:
        yield Reason(Rule.VACUOUS, target, name, record.reason)
    elif verdict is not Verdict.PROVED:
        yield Reason(Rule.UNDECIDED, target, name, f"{verdict}: {record.reason}")
    else:
        # A record that contradicts itself was edited, or written by a tool at fault.
        failing = [o.name for o in record.obligations if o.verdict is not Verdict.PROVED]
        if failing:
            yield Reason(Rule.UNDECIDED, target, name, f"PROVED, though its obligation {failing[0]} is not")
        elif not record.obligations and not record.parts:
            yield Reason(Rule.UNDECIDED, target, name, "PROVED, though it has no obligation")
        ground = unproved(run, record)
        if ground:
            yield Reason(Rule.UNDECIDED, target, name, f"PROVED, though {ground}")


def _assumptions(run: Run, policy: Policy, before: Target | None) -> Iterator[Reason]:
    """Yield assumptions that neither the baseline has for the property nor the policy allows."""
    if policy.assumptions is None and before is None:
        return
    for record in run.properties:
        was = before.properties.get(key(record)) if before else None
        known = was.assumptions if was else []
        for assumption in record.assumptions:
            if assumption not in known and not matches(assumption, policy.assumptions or []):
                message = f"rests on the assumption {assumption}, which neither baseline nor policy allows"
                yield Reason(Rule.ASSUMPTION, run.target.name, key(record), message, assumption)


def _regressions(run: Run, before: Target, policy: Policy) -> Iterator[Reason]:
    name = run.target.name
    now = described(run)
    records = {key(record): record for record in run.properties}
    for claim, was in before.properties.items():
        if was.proved:
            record = records.get(claim)
            if record is None:
                yield Reason(Rule.MISSING, name, claim, "PROVED in the baseline, now not in the run")
            else:
                yield from _weaker(name, claim, was, now.properties[claim], record)
    for function, sha256 in before.functions.items():
        if function not in now.functions:
            message = f"the baseline has the function {function}, and the run does not"
            yield Reason(Rule.MISSING, name, "", message)
        elif now.functions[function] != sha256 and matches(function, policy.same_code):
            found = f"expected the bytes of {function} with SHA-256 {sha256}, found {now.functions[function]}"
            yield Reason(Rule.CODE, name, "", found)


def _weaker(target: str, claim: str, was: Claim, now: Claim, record: PropertyRecord) -> Iterator[Reason]:
    if not now.proved:
        yield Reason(Rule.WEAKER, target, claim, f"PROVED in the baseline, now {status(record)}")
    lost = sorted(set(was.obligations) - set(now.obligations))
    if lost and now.proved:
        yield Reason(Rule.WEAKER, target, claim, f"the baseline also has the obligations {', '.join(lost)}")


def _live(item: Evidence, policy: Policy) -> Iterator[Reason]:
    """What the policy asks of live.json and does not find there; contradictions are in the run's verdicts."""
    name = item.run.target.name
    if not policy.require_live:
        return
    if item.live is None:
        message = "no live run of these bytes: there is no live.json of them beside run.json"
        yield Reason(Rule.LIVE, name, "", message)
        return
    if not item.live.configurations:
        yield Reason(Rule.LIVE, name, "", "live.json has no configuration")
    for each in item.live.configurations:
        if each.outcome != "entered":
            found = f"{each.name}: the guest {each.outcome}{f': {each.reason}' if each.reason else ''}"
            yield Reason(Rule.LIVE, name, "", found)
        false = next((check for check in each.checks if check.seen is Seen.FALSE), None)
        if false is not None:
            what = false.assumption or "conclusion"
            yield Reason(Rule.LIVE, name, "", f"{each.name}: {what} is false: {false.what}: {false.value}")


def _mutants(item: Evidence, policy: Policy) -> Iterator[Reason]:
    """Yield what the policy requires of mutation.json and does not find there."""
    required, mutation, name = policy.mutants, item.mutation, item.run.target.name
    if required is None:
        return
    if mutation is None:
        yield Reason(Rule.MUTANTS, name, "", "no mutants were run: there is no mutation.json beside run.json")
        return
    if mutation.sha256 != item.run.target.sha256:
        found = (
            f"expected mutants of the binary with SHA-256 {item.run.target.sha256}, found {mutation.sha256}"
        )
        yield Reason(Rule.MUTANTS, name, "", found)
    if len(mutation.mutants) < required.at_least:
        found = f"expected at least {required.at_least} mutants, found {len(mutation.mutants)}"
        yield Reason(Rule.MUTANTS, name, "", found)
    for phase in mutation.skipped:
        yield Reason(Rule.MUTANTS, name, "", f"verify mutate was run without its phase {phase}")
    # An equivalent mutant is one of which every property was proved again: no fault was seeded.
    caught = {"refuted", "equivalent", *(["unsupported"] if required.allow_unsupported else [])}
    for mutant in mutation.mutants:
        if mutant.outcome not in caught:
            found = f"mutant {mutant.edit} at {mutant.where}: expected refuted, found {mutant.outcome}"
            yield Reason(Rule.MUTANTS, name, "", found)
    for fault in mutation.faults:
        if not fault.noticed:
            yield Reason(
                Rule.MUTANTS, name, "", f"error seeded into the verifier was not noticed: {fault.fault}"
            )
