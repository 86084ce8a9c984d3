"""Compare two kernels and collect what a reviewer of the change should know."""

from __future__ import annotations

import time
from collections.abc import Sequence

from kexec_verify.diff import claims, effects, functions
from kexec_verify.diff.entered import enter
from kexec_verify.diff.findings import findings
from kexec_verify.diff.found import Found
from kexec_verify.diff.model import CaseDiff, Comparison, Query, Target
from kexec_verify.diff.prepared import refuted_preparation
from kexec_verify.diff.relation import CASES, Relation, support
from kexec_verify.diff.side import Side
from kexec_verify.diff.whole_paths import IN_PLACE, RELOCATED, WholePath, whole_paths
from kexec_verify.errors import LimitError, UnsupportedError
from kexec_verify.kexec.globals import image_addresses
from kexec_verify.prove.discharge import Discharger, Result, vacuous
from kexec_verify.prove.queries import Queries
from kexec_verify.specs.properties import RELOCATION
from kexec_verify.target import Kernel
from kexec_verify.theorems import Progress
from kexec_verify.verdict import Verdict, join
from kexec_verify.waivers import Waiver, read_waivers

_GIVEN = {
    IN_PLACE: "given the same kimage (head, start, dtb_mem), kimage_voffset, memstart_addr and boot mode",
    RELOCATED: "given the same kimage, kimage_voffset, memstart_addr and boot mode, and the same kern_reloc, "
    "el2_vectors, ttbr0 and t0sz from machine_kexec_post_load",
}
_ASSUMED = frozenset(
    {"mmu-on", "little-endian", "kimage-aligned", "stack-aligned", "t0sz-in-range", "image-in-memory"}
    | {"ctr-legal", "phys-offset-aligned"}
    # Of a machine_kexec that flushes the image and copies the routine (before 5.12).
    | {"vabits-actual", "crash-image-flushed", "kimage-in-linear-map", "memstart-aligned", "nr-segments"}
    | {"segments-in-memory", "segments-apart", "nothing-lost", "list-in-memory", "list-apart"}
    | {"list-well-formed", "control-page-linear"}
)


def compare(
    old_kernel: Kernel,
    new_kernel: Kernel,
    tell: Progress | None = None,
    queries: Queries | None = None,
    waivers: Sequence[Waiver] | None = None,
) -> Comparison:
    """Return everything that differs between two kernels' kexec.

    :param queries: sends queries to the solvers; by default in this process, and nothing is stored.
    :param waivers: by default the tool's own.
    :raises TargetError: if one of them has no relocation routine.
    """
    tell = tell or (lambda _: None)
    started = time.perf_counter()
    discharger = Discharger(queries=queries)
    waivers = read_waivers() if waivers is None else waivers
    old, new = (Side(label, kernel) for label, kernel in (("OLD", old_kernel), ("NEW", new_kernel)))
    for side in (old, new):
        side.prove(discharger, waivers, tell)
    discharger.progress = None
    tell("matching functions and obligations")
    found = Found(old, new, functions.match(old, new))
    matched = claims.match(old, new, found.matched)
    images = [image_addresses(kernel) for kernel in (old_kernel, new_kernel)]
    discharger.queries.image = range(min(i.start for i in images), max(i.stop for i in images))
    _relate(found, discharger, tell)
    tell("running both routines on a head with IND_DONE")
    for side in found.sides:
        run = enter(side)
        if run is not None:
            found.entered.append(run)
        found.tests[side.label] = effects.head_tests(side)
    if old.post_load is not None and new.post_load is not None:
        made = [effects.when_loaded(side, side.post_load) for side in found.sides if side.post_load]
        found.loading = effects.compared(*made)
    return Comparison(
        _target(old),
        _target(new),
        tuple(found.matched.functions),
        tuple(matched.properties),
        tuple(matched.obligations),
        tuple(found.cases),
        found.loading,
        tuple(found.entered),
        tuple(findings(found)),
        tuple(f"{side.label}: {name}: {why}" for side in found.sides for name, why in side.troubles.items()),
        time.perf_counter() - started,
    )


def _target(side: Side) -> Target:
    variant, kernel = side.variant, side.kernel
    page = variant.page_size if variant is not None else kernel.page_size or 0
    return Target(
        kernel.name, kernel.sha256, kernel.version, variant.name if variant is not None else "", page
    )


def _relate(found: Found, discharger: Discharger, tell: Progress) -> None:
    try:
        made = [whole_paths(side) for side in found.sides]
    except (UnsupportedError, LimitError) as error:
        for case in CASES:
            found.cases.append(CaseDiff(case, Verdict.UNSUPPORTED, (), (), (str(error),)))
        return
    for case in CASES:
        tell(f"the relation where {case}")
        old, new = made[0][case], made[1][case]
        found.cases.append(_case(found, discharger, case, old, new))
        if case == IN_PLACE:
            for whole_path in (old, new):
                (result,) = discharger.discharge([effects.icache_obligation(whole_path)])
                found.icache[whole_path.side.label] = result.verdict


def _case(found: Found, discharger: Discharger, case: str, old: WholePath, new: WholePath) -> CaseDiff:
    relation = Relation(case, old, new)
    try:
        relation.build()
    except UnsupportedError as error:
        relation.missing.append(str(error))
    results = discharger.discharge(relation.obligations)
    empty = set(vacuous(results))
    queries = tuple(_query(relation, result, empty) for result in results)
    if case == RELOCATED:
        queries += tuple(refuted_preparation(found.old, found.new))
    weak: list[str] = list(relation.missing)
    rests: list[str] = []
    for side in found.sides:
        failing, assumed = support(side, case)
        weak += sorted({f"{side.label}: {r.obligation.name} does not follow" for r in failing})
        rests += [f"{side.label}: {sentence}" for sentence in assumed]
        for name, why in side.troubles.items():
            callee = name in side.used
            if callee and found.matched.same(name):
                short = why.partition(", <")[0]
                sentence = f"{name} keeps its contract (not proved: {short}); same bytes in both"
                rests.append(f"{side.label}: {sentence}")
            else:
                weak.append(f"{side.label}: {name}: {why}")
    rests += [f"both: {_GIVEN[case]}"]
    labels = {label.removeprefix("OLD: ").removeprefix("NEW: ") for r in results for label in r.used}
    assumed = sorted(labels & _ASSUMED)
    rests += [f"both: assumed at machine_kexec's entry: {', '.join(assumed)}"] if assumed else []
    if case == RELOCATED:
        weak += _routine(found)
    verdict = join(q.verdict for q in queries)
    if weak and verdict is Verdict.PROVED:
        verdict = Verdict.UNKNOWN
    return CaseDiff(
        case,
        verdict,
        queries,
        tuple(rests),
        tuple(weak),
        tuple(_shown_way(end.legs, end.via) for end in old.ends),
        tuple(_shown_way(end.legs, end.via) for end in new.ends),
        effects.compared(effects.on_the_way(old), effects.on_the_way(new)),
    )


def _query(relation: Relation, result: Result, empty: set[str]) -> Query:
    obligation = result.obligation
    verdict, model = result.verdict, None
    if verdict is Verdict.PROVED and obligation.name in empty:
        verdict = Verdict.VACUOUS
    if verdict is not Verdict.PROVED:
        model = relation.model(result)
        if model is not None:
            verdict = Verdict.REFUTED
    return Query(obligation.name, obligation.sentence, verdict, model or {})


def _shown_way(legs: tuple[str, ...], via: str) -> str:
    return f"{' → '.join(legs)} → the entry, at {via}"


def _routine(found: Found) -> list[str]:
    """Return why the two routines are not known to do the same to memory: each must be the list machine."""
    weak = []
    for side in found.sides:
        for finding in filter(None, (side.finding(claim.id) for claim in RELOCATION)):
            if finding.verdict is not Verdict.PROVED:
                weak.append(f"{side.label}: {finding.claim.id} is {finding.verdict}")
    old, new = found.old.variant, found.new.variant
    if old is not None and new is not None and old.page_size != new.page_size:
        weak.append(f"OLD copies pages of {old.page_size} bytes, NEW of {new.page_size}")
    return weak
