"""Prove a routine's properties: from its bytes to a verdict for each."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kexec_verify.arm64.lift import Code
from kexec_verify.errors import InternalError, LimitError, UnsupportedError
from kexec_verify.kexec import list_induction, relocation
from kexec_verify.kexec.abi_variant import AbiVariant, recognise
from kexec_verify.obligation import Facts
from kexec_verify.prove.discharge import Discharger, Result, vacuous
from kexec_verify.prove.witness import witness
from kexec_verify.refute.counterexample import Counterexample
from kexec_verify.refute.functions.record import CallCounterexample
from kexec_verify.refute.scenario import Scenario
from kexec_verify.refute.search import rerun, search
from kexec_verify.refute.witness import Path, walk
from kexec_verify.specs.assumptions import ASSUMPTIONS
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.specs.properties import Property
from kexec_verify.symbolic.loop_iterations import LoopIterations
from kexec_verify.verdict import BLOCKED, Verdict, join
from kexec_verify.waivers import Waiver

SEARCH_SECONDS = 30.0  # of CPU time
_TRIED = 6  # obligations whose hypotheses are searched for values

type Progress = Callable[[str], None]
"""Called with a short description of the current step."""

type Known = Callable[[Outcome], None]
"""Called with the outcome known so far, before the search for counterexamples."""


@dataclass
class Finding:
    """One property's verdict, and why.

    :param reason: one sentence where the verdict is not PROVED.
    :param blocked_by: the property at the root, of one that is undecided only for what it depends on.
    """

    claim: Property
    verdict: Verdict
    reason: str = ""
    results: list[Result] = field(default_factory=list)
    assumptions: list[str] = field(default_factory=list)
    counterexample: Counterexample | CallCounterexample | None = None
    waiver: Waiver | None = None
    blocked_by: str = ""

    @property
    def failing(self) -> list[Result]:
        """Obligations that are not proved; those that name a fault at an instruction come first."""
        failing = [result for result in self.results if result.verdict is not Verdict.PROVED]
        return sorted(failing, key=lambda result: not result.obligation.fault)


@dataclass(frozen=True)
class CoveredFunction:
    """A function other than the routine: its code, the addresses that some path ran, its loops.

    :param known: what is taken to hold at cutpoints, by address, where a loop has no other definition.
    """

    code: Code
    covered: frozenset[int]
    iterations: Sequence[LoopIterations] = ()
    known: Mapping[int, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class CalleeContract:
    """A callee's contract: name, sentence, and whether it is proved or assumed, in words."""

    name: str
    sentence: str
    how: str


@dataclass(frozen=True)
class BugReached:
    """A BUG or WARN: in which function and where, and the branches that lead there."""

    function: str
    at: int
    kind: str
    condition: tuple[str, ...]


@dataclass
class Outcome:
    """All results for one kernel; times in seconds by stage.

    :param witnesses: values with which each assumption holds, by its id.
    :param globals: name, address, and how it was found.
    :param paths: the paths that proofs are about, and for each a list with which the real bytes take it.
    :param runs: paths of C functions, for each the inputs with which the real bytes take it.
    :param notes: other facts for a reader, a sentence each.
    :param choices: patch sites that are proved for each way they may be, and the choice that decides.
    """

    code: Code
    variant: AbiVariant | None
    findings: list[Finding]
    seconds: dict[str, float]
    witnesses: dict[str, dict[str, str]] = field(default_factory=dict)
    paths: dict[Path, Scenario | None] = field(default_factory=dict)
    runs: dict[Path, dict[str, str]] = field(default_factory=dict)
    others: list[CoveredFunction] = field(default_factory=list)
    contracts: list[CalleeContract] = field(default_factory=list)
    ends: list[BugReached] = field(default_factory=list)
    globals: list[tuple[str, int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    choices: dict[int, str] = field(default_factory=dict)

    def where(self, address: int) -> str:
        """Return ``address`` as the kernel prints it: symbol, offset and size."""
        codes = [self.code, *(listed.code for listed in self.others)]
        return next((code.where(address) for code in codes if address in code), f"{address:#x}")


def has_obligation(claim: Property, name: str) -> bool:
    """Return whether the obligation called ``name`` belongs to the property."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in claim.obligations)


def prove(
    code: Code,
    claims: Sequence[Property],
    page_size: int | None = None,
    layout: KimageLayout | None = None,
    progress: Progress | None = None,
    discharger: Discharger | None = None,
    search_seconds: float = SEARCH_SECONDS,
    known: Known | None = None,
) -> Outcome:
    """Return the verdicts on ``claims`` for the routine in ``code``.

    :param claims: with every property that one of them rests on.
    :param page_size: bytes, where the image's header says so.
    :param layout: of struct kimage, where the kernel's BTF says so.
    :param discharger: one to share with other targets: equal queries are sent once.
    :param search_seconds: CPU time for a search for a run that refutes what is not proved; 0 for no search.
    """
    proof = RoutineProof(code, claims, page_size, layout, progress, discharger)
    return proof.finish(search_seconds, known)


class RoutineProof:
    """The proof of a routine. Creating it sends every query that can be made at once.

    The parameters are those of :func:`prove`; ``folds_ttbr`` is that of AbiVariant.

    :ivar variant: None if the proof covers no such variant.
    :ivar trouble: why the obligations could not be made.
    """

    def __init__(
        self,
        code: Code,
        claims: Sequence[Property],
        page_size: int | None = None,
        layout: KimageLayout | None = None,
        progress: Progress | None = None,
        discharger: Discharger | None = None,
        folds_ttbr: bool | None = None,
    ):
        self.code = code
        self.claims = list(claims)
        self.seconds: dict[str, float] = {}
        self.variant: AbiVariant | None = None
        self._tell = progress or (lambda _: None)
        self._discharger = discharger or Discharger()
        self._discharger.progress = lambda obligation: self._tell(obligation.name)
        self.trouble: UnsupportedError | LimitError | None = None
        self._asked: list[Callable[[], Result]] = []
        started = time.perf_counter()
        try:
            self._tell("recognising the routine's ABI variant")
            self.variant = replace(recognise(code, page_size, layout), folds_ttbr=folds_ttbr)
            self.claims = [claim for claim in claims if claim.variant in (None, self.variant.name)]
            self._tell("running every path")
            self.seconds["recognition"] = time.perf_counter() - started
            self._asked = self._ask(self.variant, one_flag=False)
        except (UnsupportedError, LimitError) as error:
            self.trouble = error

    def _ask(self, variant: AbiVariant, one_flag: bool) -> list[Callable[[], Result]]:
        """Run every path and send all queries."""
        started = time.perf_counter()
        obligations = relocation.build(self.code, variant, self._discharger.decide, one_flag)
        obligations += list_induction.build(variant.page_size)
        wanted = [o for o in obligations if any(has_obligation(claim, o.name) for claim in self.claims)]
        asked = self._discharger.begin(wanted)
        stage = "execution, one flag a word" if one_flag else "execution"
        self.seconds[stage] = time.perf_counter() - started
        return asked

    def _results(self) -> list[Result]:
        """Return the results; if they fail, try again for list words with one flag each."""
        if self.variant is None or self.trouble is not None:
            return []
        started = time.perf_counter()
        results = [result() for result in self._asked]
        self.seconds["solving"] = time.perf_counter() - started
        if all(result.verdict is Verdict.PROVED for result in results):
            return results
        try:
            asked = self._ask(self.variant, one_flag=True)
        except (UnsupportedError, LimitError) as error:
            self.trouble = error
            return []
        started = time.perf_counter()
        one_flag = [result() for result in asked]
        self.seconds["solving, one flag a word"] = time.perf_counter() - started
        return _better(self.claims, results, one_flag)

    def finish(self, search_seconds: float = SEARCH_SECONDS, known: Known | None = None) -> Outcome:
        """Return the verdicts, once all queries are answered.

        :param known: called with what is known before counterexamples are searched for.
        """
        code, variant, seconds = self.code, self.variant, self.seconds
        results = self._results()
        findings = [judge(claim, variant, results, self.trouble) for claim in self.claims]
        started = time.perf_counter()
        paths = _run_paths(code, variant, results)
        _demand_runs(findings, paths)
        apply_dependencies(findings)
        seconds["paths"] = time.perf_counter() - started
        if known is not None:
            known(Outcome(code, variant, findings, seconds, {}, paths))
        open_claims = {finding.claim.id for finding in findings if finding.verdict is not Verdict.PROVED}
        if open_claims and variant is not None and search_seconds > 0:
            self._tell("searching for a list that shows the fault")
            started = time.perf_counter()
            _refute(code, variant, findings, open_claims, search_seconds)
            seconds["search"] = time.perf_counter() - started
            restate_blocked(findings)
        started = time.perf_counter()
        witnesses = assumption_witnesses(results)
        seconds["witnesses"] = time.perf_counter() - started
        return Outcome(code, variant, findings, seconds, witnesses, paths)


def _run_paths(
    code: Code, variant: AbiVariant | None, results: Sequence[Result]
) -> dict[Path, Scenario | None]:
    """Return, for each path that some hypotheses allow, a list with which the real bytes take it, if any."""
    live = {r.obligation.path for r in results if r.obligation.path and not r.idle}
    if variant is None or not live:
        return {}
    try:
        found = walk(code, variant, live)
    except UnsupportedError:
        found = {}
    return {path: found.get(path) for path in live}


def _demand_runs(findings: Sequence[Finding], paths: dict[Path, Scenario | None]) -> None:
    """Make findings VACUOUS if they depend on a path that no list was seen to take."""
    for finding in findings:
        for result in finding.results:
            path = result.obligation.path
            if (
                finding.verdict is Verdict.PROVED
                and path in paths
                and paths[path] is None
                and not result.idle
            ):
                finding.verdict = Verdict.VACUOUS
                name, end = result.obligation.name, path[-1]
                finding.reason = f"{name} is about a path ending at {end:#x} that no list was seen to take"


def assumption_witnesses(results: Sequence[Result], known: Collection[str] = ()) -> dict[str, dict[str, str]]:
    """Return, for each assumption that is a hypothesis, values with which it holds.

    :param known: assumptions for which values are known already.
    """
    by_label: dict[str, list[Facts]] = {}
    for result in results:
        hypotheses = result.obligation.hypotheses
        for label in ({label for label, _ in hypotheses} & set(ASSUMPTIONS)) - set(known):
            if not result.idle:
                by_label.setdefault(label, []).append(hypotheses)
    found = {label: witness(label, sorted(by_label[label], key=len)[:_TRIED]) for label in sorted(by_label)}
    return {label: values for label, values in found.items() if values is not None}


def _better(claims: Sequence[Property], any_flags: list[Result], one_flag: list[Result]) -> list[Result]:
    """Choose between the results for any flags and those for one flag.

    A property's obligations are all taken from one of the two: from the second only if that alone proves it.
    """

    def proved(results: list[Result], claim: Property) -> bool:
        mine = [r for r in results if has_obligation(claim, r.obligation.name)]
        return bool(mine) and all(r.verdict is Verdict.PROVED for r in mine)

    gained = [c for c in claims if not proved(any_flags, c) and proved(one_flag, c)]

    def is_gained(result: Result) -> bool:
        return any(has_obligation(claim, result.obligation.name) for claim in gained)

    return [r for r in any_flags if not is_gained(r)] + [r for r in one_flag if is_gained(r)]


def judge(
    claim: Property,
    variant: AbiVariant | None,
    results: Sequence[Result],
    trouble: UnsupportedError | LimitError | None,
) -> Finding:
    """Return the verdict on ``claim`` from its obligations' results, or why they could not be made."""
    mine = [result for result in results if has_obligation(claim, result.obligation.name)]
    if trouble is not None:
        verdict = Verdict.UNSUPPORTED if isinstance(trouble, UnsupportedError) else Verdict.UNKNOWN
        return Finding(claim, verdict, str(trouble), results=mine)
    finding = Finding(claim, join(result.verdict for result in mine), results=mine)
    finding.assumptions = _assumptions(claim, variant, mine)
    if finding.failing:
        worst = finding.failing[0].obligation
        finding.reason = f"{worst.name} is not proved: {worst.sentence}"
    elif not mine:
        finding.reason = "no obligation was found for it"
    elif vacuous(mine):
        finding.verdict = Verdict.VACUOUS
        finding.reason = f"the hypotheses of {vacuous(mine)[0]} contradict each other on every path"
    return finding


def _assumptions(claim: Property, variant: AbiVariant | None, results: Sequence[Result]) -> list[str]:
    """Return the assumptions that its proofs used, by unsat cores, and those that its meaning needs."""
    used = {label for result in results for label in result.used} | set(claim.assumptions)
    return [
        name
        for name, assumption in ASSUMPTIONS.items()
        if name in used
        and (variant is None or assumption.variant in (None, variant.name))
        and not (name == "kimage-layout" and variant is not None and variant.layout_from == "BTF")
        and not (name == "physical-48-bits" and variant is not None and variant.folds_ttbr is not None)
    ]


def apply_dependencies(findings: Sequence[Finding]) -> None:
    """Make each property undecided that depends on one that is not proved."""
    by_id = {finding.claim.id: finding for finding in findings}
    for finding in findings:
        for name in finding.claim.rests_on:
            ground = by_id.get(name)
            if (
                finding.verdict is Verdict.PROVED
                and ground is not None
                and ground.verdict is not Verdict.PROVED
            ):
                block(finding, ground, by_id)
            if ground is not None:
                finding.assumptions = [
                    a for a in ASSUMPTIONS if a in finding.assumptions or a in ground.assumptions
                ]


def block(finding: Finding, ground: Finding, by_id: Mapping[str, Finding]) -> None:
    """Make ``finding`` undecided for ``ground``, and name the property at the root of that."""
    root = by_id.get(ground.blocked_by, ground)
    finding.verdict, finding.blocked_by = Verdict.UNKNOWN, root.claim.id
    finding.reason = _blocked_reason(root)


def restate_blocked(findings: Sequence[Finding]) -> None:
    """State the final verdict of the property that a blocked one names, once the search is over."""
    by_id = {finding.claim.id: finding for finding in findings}
    for finding in findings:
        if finding.blocked_by and finding.verdict is Verdict.REFUTED:
            finding.blocked_by = ""
        elif finding.blocked_by:
            finding.reason = _blocked_reason(by_id[finding.blocked_by])


def _blocked_reason(root: Finding) -> str:
    return f"{BLOCKED}{root.claim.id}, which is {root.verdict}"


def _refute(
    code: Code, variant: AbiVariant, findings: Sequence[Finding], wanted: set[str], budget: float
) -> None:
    try:
        found = search(code, variant, wanted, budget)
    except UnsupportedError:
        return
    for finding in findings:
        counterexample = found.get(finding.claim.id)
        if counterexample is not None and finding.claim.id in wanted:
            if not rerun(counterexample, code, variant):
                raise InternalError(
                    f"the replay of {finding.claim.id} does not show: {counterexample.effect}"
                )
            finding.verdict = Verdict.REFUTED
            finding.reason = counterexample.effect
            finding.counterexample = counterexample
