"""Prove the properties of the whole kexec path (T6 to T8) from a kernel's C code."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from kexec_verify.arm64.lift import Code
from kexec_verify.errors import InternalError, UnsupportedError
from kexec_verify.kexec.abi_variant import AbiVariant
from kexec_verify.kexec.composition import STANDALONE, Composition, Part, has_whole_path
from kexec_verify.kexec.conditions import condition
from kexec_verify.kexec.globals import image_addresses
from kexec_verify.kexec.layout import stated_layout
from kexec_verify.kexec.list_chain import NAME as CHAIN
from kexec_verify.kexec.list_code import FUNCTIONS as LISTS
from kexec_verify.kexec.list_code import PREFIX
from kexec_verify.kexec.locate import Function
from kexec_verify.kexec.machine_kexec import NAME as MACHINE_KEXEC
from kexec_verify.kexec.patch_sites import AS_LINKED, AS_PATCHED, as_linked, unknown
from kexec_verify.kexec.tables import NAME as TABLES
from kexec_verify.kexec.witnesses import folds_addresses
from kexec_verify.prove.discharge import Discharger, Result
from kexec_verify.refute.functions.paths import PathRuns
from kexec_verify.refute.functions.record import CallCounterexample
from kexec_verify.routine_choices import RoutineChoices
from kexec_verify.specs.assumptions import ASSUMPTIONS
from kexec_verify.specs.kvm_vectors import HOST_VECTORS, STUB_HANDLER
from kexec_verify.specs.properties import PROPERTIES, RELOCATION, WHOLE_PATH, Property
from kexec_verify.target import Kernel
from kexec_verify.theorems import (
    SEARCH_SECONDS,
    BugReached,
    CalleeContract,
    CoveredFunction,
    Finding,
    Known,
    Outcome,
    Progress,
    RoutineProof,
    apply_dependencies,
    assumption_witnesses,
    block,
    has_obligation,
    judge,
    restate_blocked,
)
from kexec_verify.verdict import Verdict
from kexec_verify.waivers import OWN, Waiver, unused, waiver_of

# Which parts a property's obligations come from, by the first word of their names.
_PARTS = {
    "mk": ("machine_kexec",),
    "pl": ("machine_kexec_post_load",),
    "restart": ("cpu_soft_restart",),
    "stub": ("__hyp_stub_vectors", "trans_pgd_stub_vectors"),
    "kvm": (HOST_VECTORS, STUB_HANDLER),
    "path": ("",),
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
) -> tuple[Outcome, Composition | None]:
    """Return the verdicts on ``claims`` for ``kernel``, and the composition that they are about.

    There is no composition for a target that has the routine alone, or if the routine's ABI variant is not
    known.

    :param routine: the relocation routine.
    :param claims: with every property that one of them rests on or is made of.
    """
    made_at_boot = unknown(kernel, routine.address, routine.end)
    code = Code(routine.name, routine.address, routine.code, unknown=made_at_boot)
    discharger.queries.image = image_addresses(kernel)
    own = [claim for claim in claims if claim in RELOCATION]
    layout, folds = stated_layout(kernel), folds_addresses(kernel, "__enable_mmu")

    def prove(code: Code) -> RoutineProof:
        return RoutineProof(code, own, kernel.page_size, layout, progress, discharger, folds)

    proof = prove(code)
    choices = RoutineChoices(kernel, proof, prove)
    composition: KernelProof | None = None
    if proof.variant is not None and has_whole_path(kernel):
        about = (None, proof.variant.name)
        rest_of = [claim for claim in claims if claim not in own and claim.variant in about]
        if rest_of:
            # Where others solve, they have the routine's questions while its C code is run here.
            composition = KernelProof(kernel, routine, proof.variant, rest_of, progress, discharger)
    # What is known of the routine as linked says nothing before its variants are proved.
    outcome = proof.finish(known=None if choices.proofs else known)
    choices.finish(outcome)
    if composition is not None:
        composition.finish(outcome)
    _say_what_is_patched(outcome, kernel, code, composition, choices)
    _waive(outcome, waivers)
    return outcome, composition.composition if composition is not None else None


def _say_what_is_patched(
    outcome: Outcome,
    kernel: Kernel,
    routine: Code,
    composition: KernelProof | None,
    choices: RoutineChoices,
) -> None:
    """List what the proofs assume of what boot patches, and note which choices they are for."""
    known = composition.composition if composition is not None else None
    executed = composition.executed if composition is not None else set(routine.addresses)
    both = choices.both | (known.proved_both_ways if known is not None else {})
    listed = as_linked(kernel, executed, both.keys() | (known.refusing if known is not None else set()))
    outcome.choices = both
    if both:
        names = sorted(set(both.values()))
        keys = sum("@" in name for name in names)
        counts = (
            (len(names) - keys, "capability", "capabilities"),
            (keys, "static key's site", "static keys' sites"),
        )
        counted = " and ".join(f"{n} {one if n == 1 else more}" for n, one, more in counts if n)
        outcome.notes.append(f"what is proved holds for every choice of {counted}: {', '.join(names)}")
    outcome.notes += [listed] if listed is not None else []
    own = as_linked(kernel, routine.addresses, {}) is not None
    whole = kernel.patching is not None and bool(kernel.patching.alternatives)
    for finding in outcome.findings:
        names_used = set(finding.assumptions)
        if AS_LINKED in names_used or (own and finding.claim in RELOCATION):
            names_used |= {*AS_PATCHED, AS_LINKED} if whole else {AS_LINKED}
            names_used -= {AS_LINKED} if whole and listed is None else set()
            finding.assumptions = [name for name in ASSUMPTIONS if name in names_used]


def _waive(outcome: Outcome, waivers: Sequence[Waiver]) -> None:
    """Give each refuted property its waiver, and note each waiver that matches nothing.

    Of the tool's own waivers only those of this ABI variant are considered: it has some for each variant.
    """
    variant = waived_variant(outcome.variant)
    for finding in outcome.findings:
        if finding.verdict is Verdict.REFUTED:
            failing = [
                (o.name, o.sentence, outcome.where(o.at) if o.at is not None else "")
                for o in (result.obligation for result in finding.failing)
            ]
            finding.waiver = waiver_of(waivers, finding.claim.id, variant, failing)
    finding_of = {finding.claim.id: finding for finding in outcome.findings}
    for waiver in waivers:
        found = finding_of.get(waiver.property)
        looked_at = waiver.variant == variant or waiver.file != OWN
        if found is not None and looked_at and found.waiver != waiver:
            outcome.notes.append(unused(waiver, found.verdict))


def waived_variant(variant: AbiVariant | None) -> str:
    """Return a waiver's name for the ABI variant: its name, and whether the routine tests head itself."""
    if variant is None:
        return ""
    return f"{variant.name}, tests head" if variant.tests_head else variant.name


class KernelProof:
    """The proof of the C functions. Creating it sends every query to the solvers."""

    def __init__(
        self,
        kernel: Kernel,
        routine: Function,
        variant: AbiVariant,
        claims: Sequence[Property],
        progress: Progress,
        discharger: Discharger,
    ):
        self.variant, self.progress = variant, progress
        self.claims = claims
        self.composition = Composition(kernel, variant, routine, discharger.decide, choices=True)
        progress("running the C code")
        started = time.perf_counter()
        functions = {claim.function for claim in claims}
        alone = functions if functions <= set(STANDALONE) else set()
        lists = not functions.isdisjoint(LISTS)
        self.composition.build([name for name in STANDALONE if name in alone], lists)
        wanted = [
            obligation
            for part in self.composition.parts.values()
            for obligation in part.obligations
            if any(has_obligation(claim, obligation.name) for claim in self.claims)
        ]
        _demand_owners(self.composition, variant)
        self._asked = discharger.begin(wanted)
        self._execution = time.perf_counter() - started
        self._paths = PathRuns(self.composition, discharger.queries)

    def finish(self, outcome: Outcome) -> None:
        """Add the results of the C functions to ``outcome``, once all queries are answered."""
        composition, variant, seconds = self.composition, self.variant, outcome.seconds
        seconds["C code"] = self._execution
        started = time.perf_counter()
        results = [self._result(asked) for asked in self._asked]
        outcome.witnesses |= assumption_witnesses(results, outcome.witnesses)
        findings = [_finding(claim, composition, variant, results) for claim in self.claims]
        self._demand_runs(findings)
        self._demand_copies(findings)
        seconds["C code, paths"] = self._paths.seconds
        seconds["C code, solving"] = time.perf_counter() - started - self._paths.seconds
        outcome.runs = {path: given for path, given in self._paths.given.items() if given}
        seconds["C code, search"] = _refute(findings, self._paths, self.progress)
        everything = [*outcome.findings, *findings]
        apply_dependencies(everything)
        _apply_refuted_assumptions(everything)
        for finding in findings:
            _compose(finding, everything, variant)
        restate_blocked(everything)
        outcome.findings = everything
        outcome.others = _listed(findings, composition)
        outcome.contracts = [
            CalleeContract(
                name, contract.sentence, "assumed" if contract.assumed else "proved from its bytes"
            )
            for name, (_, contract) in sorted(composition.contracts.items())
        ]
        known = composition.context.globals
        outcome.globals = [(name, known[name], known.found_by[name]) for name in known.addresses]
        outcome.ends = [
            BugReached(part.function, bug.at, bug.kind, condition(composition.context, bug.facts))
            for part in composition.parts.values()
            for bug in part.bugs
        ]

    @property
    def executed(self) -> set[int]:
        """Addresses of the instructions that proofs are about, the routine's included."""
        routine = self.composition.routine
        found = set(range(routine.address, routine.end, 4))
        return found.union(*(part.covered for part in self.composition.parts.values()))

    def _result(self, asked: Callable[[], Result]) -> Result:
        """Return a query's result, and run its path while other processes solve later queries."""
        result = asked()
        if result.verdict is Verdict.PROVED and not result.idle:
            self._paths.seen(result.obligation)
        return result

    def _demand_runs(self, findings: Sequence[Finding]) -> None:
        """Make a proof VACUOUS if it is about a path that no run of the real bytes was seen to take.

        :raises InternalError: if a run breaks a contract that is proved.
        """
        self.progress("running the C code's paths")
        for finding in findings:
            for result in finding.results:
                if finding.verdict is not Verdict.PROVED or result.idle:
                    continue
                seen = self._paths.seen(result.obligation)
                fault = self._paths.broken.get(result.obligation.path)
                if fault is not None:
                    raise InternalError(f"{finding.claim.id} is proved, and a run shows: {fault}")
                if not seen:
                    finding.verdict = Verdict.VACUOUS
                    name, end = result.obligation.name, result.obligation.path[-1]
                    finding.reason = f"{name} is about a path ending at {end:#x} that no run was seen to take"

    def _demand_copies(self, findings: Sequence[Finding]) -> None:
        """Refute a proof about the copy of the linear map if a run over small tables leaves an entry out.

        That every entry is copied is not proved, so a proof alone does not exclude such a run. The proof is
        VACUOUS if a run does not copy its tables.
        """
        for finding in findings:
            if finding.claim.function == TABLES and finding.verdict is Verdict.PROVED:
                self.progress(f"running {TABLES}")
                started = time.perf_counter()
                try:
                    shown = self._paths.refute_any_copy(finding.claim.id)
                except UnsupportedError as error:
                    finding.verdict, finding.reason = Verdict.VACUOUS, str(error)
                    continue
                finally:
                    self._paths.seconds += time.perf_counter() - started
                if shown is not None:
                    finding.verdict, finding.reason = Verdict.REFUTED, shown.effect
                    finding.counterexample = shown


def _apply_refuted_assumptions(findings: Sequence[Finding]) -> None:
    """A property is not proved that assumes what another one is to show, and does not."""
    by_id = {finding.claim.id: finding for finding in findings}
    for ground in findings:
        for finding in findings:
            assumes = set(ground.claim.grounds).intersection(finding.assumptions)
            if ground.verdict is not Verdict.PROVED and assumes and finding.verdict is Verdict.PROVED:
                block(finding, ground, by_id)


def _demand_owners(composition: Composition, variant: AbiVariant) -> None:
    """Check that each obligation belongs to a property; otherwise no run would prove it.

    :raises InternalError: if one is no property's.
    """
    claims = [claim for claim in WHOLE_PATH if claim.variant in (None, variant.name)]
    for part in composition.parts.values():
        for name in {obligation.name for obligation in part.obligations}:
            if not any(has_obligation(claim, name) for claim in claims):
                raise InternalError(f"no property asks {name}")


def _listed(findings: Sequence[Finding], composition: Composition) -> list[CoveredFunction]:
    """Return the functions other than the routine; a vector table only to replay a fault in it."""
    found: list[CoveredFunction] = []
    for part in composition.parts.values():
        if part.code is not None and part.context is None:
            cuts = part.tables.known if part.tables is not None else {}
            found.append(CoveredFunction(part.code, part.covered, part.iterations, cuts))
    names = {listed.code.name for listed in found}
    # What several functions run as part of them is listed once, with what any of them covers.
    shared: dict[str, CoveredFunction] = {}
    for part in composition.parts.values():
        for piece in part.code.continuations if part.code is not None and part.context is None else ():
            if piece.name not in names:
                known = shared.get(piece.name)
                covered = part.covered | (known.covered if known is not None else frozenset())
                shared[piece.name] = CoveredFunction(piece, covered)
    found += shared.values()
    names |= set(shared)
    for finding in findings:
        shown = finding.counterexample
        for part in composition.parts.values():
            code = part.proof.code if part.proof is not None else None
            if isinstance(shown, CallCounterexample) and code is not None and code.name not in names:
                if code.name == shown.function:
                    names.add(code.name)
                    found.append(CoveredFunction(code, part.covered))
    return found


def _refute(findings: Sequence[Finding], paths: PathRuns, progress: Progress) -> float:
    """Look for a run that refutes what is not proved; return the seconds spent."""
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


def _finding(
    claim: Property, composition: Composition, variant: AbiVariant, results: Sequence[Result]
) -> Finding:
    troubles = [part.trouble for part in _parts(claim, composition) if part.trouble is not None]
    finding = judge(claim, variant, results, troubles[0] if troubles else None)
    if finding.verdict is Verdict.PROVED:
        vague = [name for name in finding.assumptions if name == "globals-found"]
        if vague and all(how == "its symbol" for how in composition.context.globals.found_by.values()):
            finding.assumptions.remove("globals-found")
    return finding


def _parts(claim: Property, composition: Composition) -> list[Part]:
    """Return the parts whose trouble is the property's."""
    names: set[str] = set()
    for pattern in claim.obligations:
        first = pattern.split("-", 1)[0]
        if first == "contract":
            names |= {name for name in composition.parts if name.startswith("callee ")}
        elif pattern.startswith("stub-copy"):
            names.add("trans_pgd_stub_vectors")
        elif first == "stub":
            names |= {name for name in composition.parts if name.startswith("__hyp_stub_vectors")}
        elif first == "tables":
            names |= {name for name in composition.parts if name.startswith(TABLES)}
        elif first == "list":
            parts = {CHAIN: "list-chain", **PREFIX}
            names |= {name for name, prefix in parts.items() if pattern.startswith(prefix)}
        else:
            names |= set(_PARTS[first])
        if first == "pl" and composition.routine.copied_at_last:
            names.add(MACHINE_KEXEC)
    return [part for name, part in composition.parts.items() if name in names]


def _compose(finding: Finding, everything: Sequence[Finding], variant: AbiVariant) -> None:
    """Give a composed property its worst part's verdict, and the assumptions of all its parts."""
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
    # A part for another ABI variant is not missing.
    own = [name for name in finding.claim.parts if PROPERTIES[name].variant in (None, variant.name)]
    missing = [name for name in own if name not in by_id]
    if missing and finding.verdict is Verdict.PROVED:
        finding.verdict = Verdict.UNKNOWN
        finding.reason = f"its part {missing[0]} was not asked for"
