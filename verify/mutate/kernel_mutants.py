"""Try a mutant of a C function: its parts are proved again, all others are reused."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from kexec_verify.arm64.lift import Code
from kexec_verify.errors import TargetError, UnsupportedError
from kexec_verify.kexec.composition import CALLEE, Composition, Part
from kexec_verify.kexec.conditions import condition
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.layout import stated_layout
from kexec_verify.kexec.locate import find_routine
from kexec_verify.mutate.base import Base
from kexec_verify.obligation import Obligation
from kexec_verify.prove.discharge import Result, decide
from kexec_verify.refute.functions.contract_check import breach
from kexec_verify.refute.functions.judge import broken, renewed
from kexec_verify.refute.functions.paths import PathRuns, proof_of
from kexec_verify.refute.functions.search import refute
from kexec_verify.specs.properties import RELOCATION
from kexec_verify.theorems import has_obligation, judge, prove
from kexec_verify.verdict import Verdict, join

SEARCH_SECONDS = 60.0  # of CPU time
SEARCH_OBLIGATIONS = 8
"""Failing obligations that a run is looked for of; those that fail after them fail for the same reason."""


@dataclass
class Tried:
    """The result for one mutant.

    :param verdict: None if the prover was not run.
    :param effect: what a run shows; empty if none was found.
    :param reason: why it is not proved; of a proved one, what differs all the same.
    :param results: of the obligations that were tried.
    """

    verdict: Verdict | None
    reason: str = ""
    effect: str = ""
    results: list[Result] = field(default_factory=list)


def try_mutant(base: Base, code: Code, ask_prover: bool = False) -> Tried:
    """Look for a run of ``code`` that breaks a property of the unchanged kernel; if there is none, prove it.

    :param code: a function's, changed.
    :param ask_prover: run the prover even if a run shows a fault; the result then has both.
    """
    composition, refused = composition_of(base, code)
    effect, traces = _run(base, composition.context, code)
    if effect and not ask_prover:
        return Tried(None, effect=effect)
    if refused:
        return Tried(Verdict.UNSUPPORTED, refused, effect)
    tried = prove_composition(base, composition, traces, search=not effect)
    return replace(tried, effect=effect or tried.effect)


def run_changed(base: Base, code: Code) -> str:
    """Return what a run of the changed function breaks; empty if no run that is tried breaks anything."""
    return _run(base, composition_of(base, code)[0].context, code)[0]


def prove_changed(base: Base, code: Code) -> Verdict | None:
    """Return the verdict on the unchanged kernel's properties, without a search for runs."""
    composition, refused = composition_of(base, code)
    return Verdict.UNSUPPORTED if refused else prove_composition(base, composition, [], search=False).verdict


type Traces = list[tuple[int, ...]]


def _run(base: Base, context: KexecContext, code: Code) -> tuple[str, Traces]:
    """Return what a run of the changed function breaks, from inputs that break nothing unchanged, and the
    traces.
    """
    assert base.composition is not None
    traces: Traces = []
    for name, part in base.parts.items():
        if not _reads(base, part, code):
            continue
        try:
            if part.proof is None:
                address, contract = base.composition.contracts[name.removeprefix(CALLEE)]
                code_now = context.code(part.function, address)
                fault = breach(context, contract, code_now, part.copied, base.runs[name])
                if fault is not None:
                    return fault, traces
                continue
            changed = renewed(part.proof, context)
            for inputs in base.runs[name]:
                fault, trace = broken(changed, inputs, base.counts)
                traces.append(trace)
                if fault is not None:
                    return fault, traces
        except UnsupportedError:
            continue
    return "", traces


def prove_composition(base: Base, composition: Composition, traces: Traces, search: bool) -> Tried:
    """Return the verdict on the unchanged kernel's properties, with a run if one is not proved."""
    composition.build()
    changed = [part for name, part in composition.parts.items() if part is not base.parts.get(name)]
    tried = _discharge(base, changed, search)
    if tried.effect:
        return tried
    trouble = next((part.trouble for part in changed if part.trouble is not None), None)
    if isinstance(trouble, UnsupportedError):
        return Tried(Verdict.UNSUPPORTED, str(trouble))
    if trouble is not None:
        return Tried(Verdict.UNKNOWN, str(trouble))
    if tried.verdict is not Verdict.PROVED:
        return tried
    return _judge(base, composition, tried.results, traces)


def composition_of(base: Base, code: Code) -> tuple[Composition, str]:
    """Return the mutant's parts, reusing unchanged parts that read no changed bytes.

    Also return why the mutant cannot be read, if so.
    """
    assert base.composition is not None
    kernel = base.kernel.patched(code.address, code.data)
    try:
        routine, refused = find_routine(kernel), ""
    except TargetError as error:
        routine, refused = base.routine, str(error).removeprefix(f"{kernel.source}: ")
    composition = Composition(kernel, base.variant, routine, decide)
    # The table of BUGs and WARNs is no part of what is changed; looking for it takes seconds.
    composition.context.breaks |= base.composition.context.breaks
    before, after = base.composition.context, composition.context
    try:
        same = before.globals == after.globals and before.page_offset == after.page_offset
    except UnsupportedError as error:
        return composition, str(error)
    if same and routine == base.routine:
        composition.kept = {name: part for name, part in base.parts.items() if not _reads(base, part, code)}
    return composition, refused


def _reads(base: Base, part: Part, code: Code) -> bool:
    """Return whether the part is about bytes of the changed function in ``code``."""
    own = base.code_of(part)
    return own is not None and own.address < code.end and code.address < own.end


def _discharge(base: Base, changed: Iterable[Part], search: bool) -> Tried:
    """Prove the obligations of ``changed`` parts, until a run shows a fault."""
    results: list[Result] = []
    failing: list[Result] = []
    started = time.process_time()
    for part, obligation in _ordered(base, changed):
        (result,) = base.discharger.discharge([obligation])
        results.append(result)
        if result.verdict is Verdict.PROVED:
            continue
        failing.append(result)
        spent = time.process_time() - started > SEARCH_SECONDS
        if not search or spent or len(failing) > SEARCH_OBLIGATIONS:
            break
        claim = next(claim.id for claim in base.claims if has_obligation(claim, obligation.name))
        proof = proof_of(part)
        shown = refute(proof, result, claim) if proof is not None else None
        if shown is not None:
            return Tried(Verdict.UNKNOWN, effect=f"{claim}: {shown.effect}")
    if failing:
        worst = failing[0].obligation
        return Tried(Verdict.UNKNOWN, f"{worst.name} does not follow: {worst.sentence}")
    return Tried(Verdict.PROVED, results=results)


def _ordered(base: Base, parts: Iterable[Part]) -> Iterator[tuple[Part, Obligation]]:
    """Return the obligations of the kernel's properties: false ones first, then by length of path."""
    found = [
        (part, obligation)
        for part in parts
        for obligation in part.obligations
        if base.counts(obligation.name)
    ]
    yield from sorted(found, key=lambda pair: (not pair[1].goal.is_false(), len(pair[1].hypotheses)))


def _judge(base: Base, composition: Composition, own: list[Result], traces: Traces) -> Tried:
    """Return the verdict if no obligation fails by itself: check idle obligations, and a run for each
    path.
    """
    kept = (base.results[name] for name, part in composition.parts.items() if part is base.parts.get(name))
    results = [*own, *(result for found in kept for result in found)]
    findings = [judge(claim, base.variant, results, None) for claim in base.claims]
    routine = composition.routine
    if routine != base.routine:
        code = Code(routine.name, routine.address, routine.code)
        layout = stated_layout(composition.kernel)
        outcome = prove(
            code,
            RELOCATION,
            composition.kernel.page_size,
            layout,
            discharger=base.discharger,
            search_seconds=0,
        )
        findings += outcome.findings
    verdict = join(finding.verdict for finding in findings)
    if verdict is not Verdict.PROVED:
        return Tried(verdict, next(f.reason for f in findings if f.verdict is verdict))
    live = [result.obligation for result in own if not result.idle and result.obligation.path]
    unseen = _unseen(composition, live, traces)
    if unseen is not None:
        return Tried(Verdict.VACUOUS, f"{unseen.name} is about a path that no run was seen to take")
    return Tried(Verdict.PROVED, _changed_bugs(base, composition))


def _unseen(composition: Composition, live: Iterable[Obligation], traces: Traces) -> Obligation | None:
    """Return an obligation about a path that no run of the changed bytes was seen to take."""
    ran = [_joined(trace) for trace in traces]
    paths = PathRuns(composition)
    for obligation in live:
        if not any(_joined(obligation.path) in trace for trace in ran) and not paths.seen(obligation):
            return obligation
    return None


def _joined(addresses: tuple[int, ...]) -> str:
    """Join addresses to a text in which parts of a path can be searched."""
    return "".join(f"{address:x} " for address in addresses)


def _changed_bugs(base: Base, composition: Composition) -> str:
    """Return how the BUGs and WARNs that a run lists differ; no property says where there may be one."""
    assert base.composition is not None
    for name, part in composition.parts.items():
        if part is not base.parts.get(name):
            before = base.parts[name].bugs if name in base.parts else []
            were = [(bug.kind, bug.at, condition(base.composition.context, bug.facts)) for bug in before]
            if were != [(bug.kind, bug.at, condition(composition.context, bug.facts)) for bug in part.bugs]:
                return "the BUGs and WARNs that a run lists are others"
    return ""
