"""Tries a mutant of a function around the routine: its parts are proved again, the rest is kept."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from specs.properties import RELOCATION
from verify.arm64.lift import Code
from verify.errors import TargetError, UnsupportedError
from verify.kexec.layout import stated_layout
from verify.kexec.locate import Function, find_routine
from verify.kexec.way import Part, Way
from verify.kexec.whole import Whole
from verify.kexec.words import condition
from verify.mutate.base import Base
from verify.obligation import Obligation
from verify.prove.discharge import Result, decide
from verify.refute.whole.judge import broken, renewed
from verify.refute.whole.keeps import breach
from verify.refute.whole.search import refute, witnesses
from verify.target import Kernel
from verify.theorems import judge, owed, prove
from verify.verdict import Verdict, join

SEARCH_SECONDS = 60.0
SEARCH_OBLIGATIONS = 8
"""Failing obligations that a run is looked for of; those that fail after them fail for the same reason."""


@dataclass
class Tried:
    """What came of one mutant.

    :param verdict: None if no proof was asked for.
    :param effect: what a run shows; empty if none was found.
    :param reason: why it is not proved; of a proved one, what differs all the same.
    """

    verdict: Verdict | None
    reason: str = ""
    effect: str = ""
    failing: list[Result] = field(default_factory=list)


def try_mutant(base: Base, code: Code, ask_prover: bool = False) -> Tried:
    """Look for a run of ``code`` that breaks what the kernel has unchanged; where there is none, prove that.

    :param code: a function's, changed.
    :param ask_prover: ask for a proof even if a run shows a fault; its effect is told beside the verdict.
    """
    kernel = base.kernel.patched(code.address, code.data)
    try:
        routine, refused = find_routine(kernel), ""
    except TargetError as error:
        routine, refused = base.routine, str(error).removeprefix(f"{kernel.source}: ")
    way = _way(base, kernel, routine, code)
    effect = _run(base, way.whole, code)
    if effect and not ask_prover:
        return Tried(None, effect=effect)
    tried = Tried(Verdict.UNSUPPORTED, refused) if refused else _prove(base, way, search=not effect)
    return replace(tried, effect=effect or tried.effect)


def _run(base: Base, whole: Whole, code: Code) -> str:
    """What a run of the changed function breaks, from the inputs of runs that break nothing unchanged."""
    assert base.way is not None
    for name, part in base.parts.items():
        if not _reads(base, part, code):
            continue
        try:
            if part.proof is not None:
                changed = renewed(part.proof, whole)
                found = (broken(changed, inputs, base.counts) for inputs in base.runs[name])
                told = next((effect for effect in found if effect is not None), None)
            else:
                _, contract = base.way.contracts[part.function]
                told = breach(whole, part.function, contract, whole.code(part.function), part.copied)
        except UnsupportedError:
            continue
        if told is not None:
            return told
    return ""


def _prove(base: Base, way: Way, search: bool) -> Tried:
    """The verdict on every property that the kernel has unchanged, and a run where one is not proved."""
    way.build()
    changed = [part for name, part in way.parts.items() if part is not base.parts.get(name)]
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
    return _judge(base, way, changed)


def _way(base: Base, kernel: Kernel, routine: Function, code: Code) -> Way:
    """The mutant's way, with the parts of the unchanged one that read nothing of what differs."""
    assert base.way is not None
    way = Way(kernel, base.form, routine, decide)
    # The table of BUGs and WARNs is no part of what is changed; looking for it takes seconds.
    way.whole.breaks |= base.way.whole.breaks
    before, after = base.way.whole, way.whole
    same = before.globals == after.globals and before.page_offset == after.page_offset
    if same and routine == base.routine:
        way.kept = {name: part for name, part in base.parts.items() if not _reads(base, part, code)}
    return way


def _reads(base: Base, part: Part, code: Code) -> bool:
    """The part is about bytes of the function in ``code``, which is changed."""
    own = base.code_of(part)
    return own is not None and own.address < code.end and code.address < own.end


def _discharge(base: Base, changed: Iterable[Part], search: bool) -> Tried:
    """Ask what is owed of ``changed`` parts, up to where a run shows a fault."""
    failing: list[Result] = []
    started = time.perf_counter()
    for part, obligation in _ordered(base, changed):
        (result,) = base.discharger.discharge([obligation])
        if result.verdict is Verdict.PROVED:
            continue
        failing.append(result)
        spent = time.perf_counter() - started > SEARCH_SECONDS
        if not search or spent or len(failing) > SEARCH_OBLIGATIONS:
            break
        claim = next(claim.id for claim in base.claims if owed(claim, obligation.name))
        shown = refute(part.proof, result, claim) if part.proof is not None else None
        if shown is not None:
            return Tried(Verdict.UNKNOWN, effect=f"{claim}: {shown.effect}", failing=failing)
    if failing:
        worst = failing[0].obligation
        return Tried(Verdict.UNKNOWN, f"{worst.name} does not follow: {worst.sentence}", failing=failing)
    return Tried(Verdict.PROVED)


def _ordered(base: Base, parts: Iterable[Part]) -> Iterator[tuple[Part, Obligation]]:
    """What is owed for a property of the kernel: what is plainly false, then short paths before long ones."""
    found = [
        (part, obligation)
        for part in parts
        for obligation in part.obligations
        if base.counts(obligation.name)
    ]
    yield from sorted(found, key=lambda pair: (not pair[1].goal.is_false(), len(pair[1].hypotheses)))


def _judge(base: Base, way: Way, changed: list[Part]) -> Tried:
    """The verdict where no obligation fails by itself: is none idle everywhere, does each path run?"""
    results: list[Result] = []
    for name, part in way.parts.items():
        if part is not base.parts.get(name):
            asked = [o for o in part.obligations if base.counts(o.name)]
            results += base.discharger.discharge(asked)
        else:
            results += base.results[name]
    findings = [judge(claim, base.form, results, None) for claim in base.claims]
    routine = way.routine
    if routine != base.routine:
        code = Code(routine.name, routine.address, routine.code)
        layout = stated_layout(way.kernel)
        outcome = prove(
            code, RELOCATION, way.kernel.page_size, layout, discharger=base.discharger, search_seconds=0
        )
        findings += outcome.findings
    verdict = join(finding.verdict for finding in findings)
    if verdict is not Verdict.PROVED:
        return Tried(verdict, next(f.reason for f in findings if f.verdict is verdict))
    unseen = _unseen(changed, [result for result in results if not result.idle])
    if unseen is not None:
        return Tried(Verdict.VACUOUS, f"{unseen.name} is about a path that no run was seen to take")
    return Tried(Verdict.PROVED, _told(base, way))


def _unseen(changed: Iterable[Part], live: Iterable[Result]) -> Obligation | None:
    """An obligation about a path that no run of the changed bytes was seen to take."""
    asked = {id(result.obligation) for result in live}
    for part in changed:
        if part.proof is None:
            continue
        mine = [o for o in part.obligations if o.path and id(o) in asked]
        found = witnesses(part.proof, sorted({o.path for o in mine}))
        for obligation in mine:
            if found[obligation.path] is None:
                return obligation
    return None


def _told(base: Base, way: Way) -> str:
    """Whether the BUGs and WARNs that a run lists differ: no property says where there may be one."""
    assert base.way is not None
    for name, part in way.parts.items():
        if part is not base.parts.get(name):
            before = base.parts[name].bugs if name in base.parts else []
            were = [(bug.kind, bug.at, condition(base.way.whole, bug.facts)) for bug in before]
            if were != [(bug.kind, bug.at, condition(way.whole, bug.facts)) for bug in part.bugs]:
                return "the BUGs and WARNs that a run lists are others"
    return ""
