"""From a kernel's C code to a verdict for each property of the whole way (T6 to T8)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from specs.assumptions import ASSUMPTIONS
from specs.properties import PROPERTIES, RELOCATION, WAY, Property
from verify.arm64.lift import Code
from verify.errors import InternalError
from verify.kexec.form import Form
from verify.kexec.layout import stated_layout
from verify.kexec.locate import Function
from verify.kexec.way import Part, Way, has_way
from verify.kexec.witnesses import folds_addresses
from verify.kexec.words import condition
from verify.prove.discharge import Discharger, Result
from verify.refute.whole.paths import Paths
from verify.refute.whole.record import CallCounterexample
from verify.target import Kernel
from verify.theorems import (
    SEARCH_SECONDS,
    Ended,
    Finding,
    Known,
    Listed,
    Outcome,
    Progress,
    Relied,
    RoutineProof,
    block,
    held,
    judge,
    owed,
    rest,
)
from verify.verdict import Verdict
from verify.waivers import Waiver, waiver_of

# Which parts a property's obligations come from, by the first word of their names.
_PARTS = {
    "mk": ("machine_kexec",),
    "pl": ("machine_kexec_post_load",),
    "restart": ("cpu_soft_restart",),
    "stub": ("__hyp_stub_vectors", "trans_pgd_stub_vectors"),
    "way": ("",),
    "call": ("machine_kexec", "machine_kexec_post_load"),
}


def prove_kernel(
    kernel: Kernel,
    routine: Function,
    claims: Sequence[Property],
    progress: Progress,
    discharger: Discharger,
    known: Known | None = None,
    waivers: Sequence[Waiver] = (),
) -> Outcome:
    """Verdicts on ``claims`` for ``kernel``: on its routine and, where it has them, on its C functions.

    :param routine: the relocation routine.
    :param claims: with every property that one of them rests on or is made of.
    """
    code = Code(routine.name, routine.address, routine.code)
    own = [claim for claim in claims if claim in RELOCATION]
    layout, folds = stated_layout(kernel), folds_addresses(kernel, "__enable_mmu")
    proof = RoutineProof(code, own, kernel.page_size, layout, progress, discharger, folds)
    rest_of = [claim for claim in claims if claim not in own]
    way: WayProof | None = None
    if proof.form is not None and rest_of and has_way(kernel):
        # Where others solve, they have the routine's questions while its C code is run here.
        way = WayProof(kernel, routine, proof.form, rest_of, progress, discharger)
    outcome = proof.finish(known=known)
    if way is not None:
        way.finish(outcome)
    _waive(outcome, waivers)
    return outcome


def _waive(outcome: Outcome, waivers: Sequence[Waiver]) -> None:
    """Give each refuted property its waiver, and note each waiver of this form that matches nothing."""
    form = waived_form(outcome.form)
    for finding in outcome.findings:
        if finding.verdict is Verdict.REFUTED:
            failing = [(result.obligation.name, result.obligation.sentence) for result in finding.failing]
            finding.waiver = waiver_of(waivers, finding.claim.id, form, failing)
    for waiver in waivers:
        finding_of = {finding.claim.id: finding for finding in outcome.findings}
        found = finding_of.get(waiver.property)
        if found is not None and waiver.form == form and found.waiver != waiver:
            outcome.notes.append(
                f"{waiver.property} is {found.verdict}: its waiver for {waiver.obligation} in "
                "specs/waivers.toml matches nothing here"
            )


def waived_form(form: Form | None) -> str:
    """What a waiver calls the form: its name, and whether the routine tests head itself."""
    if form is None:
        return ""
    return f"{form.name}, tests head" if form.tests_head else form.name


class WayProof:
    """The proof of the C functions, from the start of which every question is asked."""

    def __init__(
        self,
        kernel: Kernel,
        routine: Function,
        form: Form,
        claims: Sequence[Property],
        progress: Progress,
        discharger: Discharger,
    ):
        self.form, self.progress = form, progress
        self.claims = [claim for claim in claims if claim.form in (None, form.name)]
        self.way = Way(kernel, form, routine, discharger.decide)
        progress("running the C code")
        started = time.perf_counter()
        self.way.build()
        wanted = [
            obligation
            for part in self.way.parts.values()
            for obligation in part.obligations
            if any(owed(claim, obligation.name) for claim in self.claims)
        ]
        _demand_owners(self.way, form)
        self._asked = discharger.begin(wanted)
        self._execution = time.perf_counter() - started
        self._paths = Paths(self.way)

    def finish(self, outcome: Outcome) -> None:
        """Add to ``outcome`` what comes of the C functions, once all is answered."""
        way, form, seconds = self.way, self.form, outcome.seconds
        seconds["C code"] = self._execution
        started = time.perf_counter()
        results = [self._result(asked) for asked in self._asked]
        outcome.witnesses |= held(results, outcome.witnesses)
        findings = [_finding(claim, way, form, results) for claim in self.claims]
        self._demand_runs(findings)
        seconds["C code, paths"] = self._paths.seconds
        seconds["C code, solving"] = time.perf_counter() - started - self._paths.seconds
        outcome.runs = {path: given for path, given in self._paths.given.items() if given}
        seconds["C code, search"] = _refute(findings, self._paths, self.progress)
        everything = [*outcome.findings, *findings]
        rest(everything)
        for finding in findings:
            _compose(finding, everything, form)
        outcome.findings = everything
        outcome.others = _listed(findings, way)
        outcome.contracts = [
            Relied(name, contract.sentence, "assumed" if contract.assumed else "proved from its bytes")
            for name, (_, contract) in sorted(way.contracts.items())
        ]
        known = way.whole.globals
        outcome.globals = [(name, known[name], known.found_by[name]) for name in known.addresses]
        outcome.ends = [
            Ended(part.function, bug.at, bug.kind, condition(way.whole, bug.facts))
            for part in way.parts.values()
            for bug in part.bugs
        ]

    def _result(self, asked: Callable[[], Result]) -> Result:
        """A question's result; its path is run while others solve what comes after it."""
        result = asked()
        if result.verdict is Verdict.PROVED and not result.idle:
            self._paths.seen(result.obligation)
        return result

    def _demand_runs(self, findings: Sequence[Finding]) -> None:
        """A proof about a path that no run of the real bytes was seen to take is VACUOUS.

        :raises InternalError: if a run breaks a contract that is proved.
        """
        self.progress("running the C code's paths")
        for finding in findings:
            for result in finding.results:
                if finding.verdict is not Verdict.PROVED or result.idle:
                    continue
                seen = self._paths.seen(result.obligation)
                told = self._paths.broken.get(result.obligation.path)
                if told is not None:
                    raise InternalError(f"{finding.claim.id} is proved, and a run shows: {told}")
                if not seen:
                    finding.verdict = Verdict.VACUOUS
                    name, end = result.obligation.name, result.obligation.path[-1]
                    finding.reason = f"{name} is about a path ending at {end:#x} that no run was seen to take"


def _demand_owners(way: Way, form: Form) -> None:
    """Each obligation is some property's: one that is not would be asked by no run.

    :raises InternalError: if one is no property's.
    """
    claims = [claim for claim in WAY if claim.form in (None, form.name)]
    for part in way.parts.values():
        for name in {obligation.name for obligation in part.obligations}:
            if not any(owed(claim, name) for claim in claims):
                raise InternalError(f"no property asks {name}")


def _listed(findings: Sequence[Finding], way: Way) -> list[Listed]:
    """The functions beside the routine; a table of vectors only for whoever replays a fault of it."""
    found = [
        Listed(part.code, part.covered, part.turns) for part in way.parts.values() if part.code is not None
    ]
    names = {listed.code.name for listed in found}
    for finding in findings:
        shown = finding.counterexample
        for part in way.parts.values():
            code = part.proof.code if part.proof is not None else None
            if isinstance(shown, CallCounterexample) and code is not None and code.name not in names:
                if code.name == shown.function:
                    names.add(code.name)
                    found.append(Listed(code, part.covered))
    return found


def _refute(findings: Sequence[Finding], paths: Paths, progress: Progress) -> float:
    """Look for a run that shows what is not proved; seconds spent."""
    started, spent = time.perf_counter(), time.process_time()
    for finding in findings:
        if finding.verdict not in (Verdict.UNKNOWN, Verdict.UNSUPPORTED):
            continue
        for result in finding.failing:
            if time.process_time() - spent > SEARCH_SECONDS:
                break
            progress(f"searching for a run that shows the fault of {finding.claim.id}")
            shown = paths.refute(result, finding.claim.id)
            if shown is not None:
                finding.verdict = Verdict.REFUTED
                finding.reason = shown.effect
                finding.counterexample = shown
                break
    return time.perf_counter() - started


def _finding(claim: Property, way: Way, form: Form, results: Sequence[Result]) -> Finding:
    troubles = [part.trouble for part in _parts(claim, way) if part.trouble is not None]
    finding = judge(claim, form, results, troubles[0] if troubles else None)
    if finding.verdict is Verdict.PROVED:
        vague = [name for name in finding.assumptions if name == "globals-found"]
        if vague and all(how == "its symbol" for how in way.whole.globals.found_by.values()):
            finding.assumptions.remove("globals-found")
    return finding


def _parts(claim: Property, way: Way) -> list[Part]:
    """The parts whose trouble is the property's."""
    names: set[str] = set()
    for pattern in claim.obligations:
        first = pattern.split("-", 1)[0]
        if first == "contract":
            names |= {name for name in way.parts if name.startswith("callee ")}
        elif pattern.startswith("stub-copy"):
            names.add("trans_pgd_stub_vectors")
        elif first == "stub":
            names |= {name for name in way.parts if name.startswith("__hyp_stub_vectors")}
        else:
            names |= set(_PARTS[first])
    return [part for name, part in way.parts.items() if name in names]


def _compose(finding: Finding, everything: Sequence[Finding], form: Form) -> None:
    """A composed property is as bad as its worst part, and assumes what its parts assume."""
    by_id = {other.claim.id: other for other in everything}
    parts = [by_id[name] for name in finding.claim.parts if name in by_id]
    if not finding.claim.parts:
        return
    worst = max([finding, *parts], key=lambda part: part.verdict.rank)
    if worst.verdict.rank > finding.verdict.rank:
        verdict = worst.verdict if worst.verdict is not Verdict.REFUTED else Verdict.UNKNOWN
        block(finding, worst, by_id)
        finding.verdict = verdict
    used = {name for part in (finding, *parts) for name in part.assumptions}
    if finding.verdict is Verdict.PROVED:
        used -= set(finding.claim.discharges)
    finding.assumptions = [name for name in ASSUMPTIONS if name in used]
    # A part for another form is not missing.
    own = [name for name in finding.claim.parts if PROPERTIES[name].form in (None, form.name)]
    missing = [name for name in own if name not in by_id]
    if missing and finding.verdict is Verdict.PROVED:
        finding.verdict = Verdict.UNKNOWN
        finding.reason = f"its part {missing[0]} was not asked for"
