"""Write findings for a reviewer: sentences about what was proved, matched or run."""

from __future__ import annotations

from collections.abc import Iterator

from kexec_verify.diff.found import Found
from kexec_verify.diff.model import CaseDiff, Entered, Finding, Query
from kexec_verify.diff.relation import GUARD
from kexec_verify.diff.side import Side
from kexec_verify.diff.whole_paths import IN_PLACE, RELOCATED
from kexec_verify.specs.contracts import contract
from kexec_verify.verdict import Verdict


def findings(found: Found) -> Iterator[Finding]:
    """Yield every finding about the two kernels."""
    cases = {case.case: case for case in found.cases}
    in_place, relocated = cases.get(IN_PLACE), cases.get(RELOCATED)
    if in_place is not None:
        yield from _copies(found, in_place)
    if relocated is not None:
        yield from _relocating(found, relocated)
    yield from _tests(found)
    if in_place is not None:
        yield from _instruction_cache(found, in_place)
        yield from _other_effects(in_place)
    yield from _loading(found)
    for run in found.entered:
        yield from _null(found, run, in_place)


def _proved(case: CaseDiff, *names: str, label: str = "") -> list[Query]:
    """Return the queries of those names (of one kernel), if all of them are proved."""
    asked = [q for q in case.queries if q.name in names and f"{label}: " in q.sentence]
    return asked if asked and all(q.verdict is Verdict.PROVED for q in asked) else []


def _copies(found: Found, case: CaseDiff) -> Iterator[Finding]:
    for_both = []
    for label, whole_path in (("OLD", case.old_way), ("NEW", case.new_way)):
        asked = _proved(case, "diff-memory", label=label)
        stuck = any(why.startswith(f"{label}: the routine enters") for why in case.open)
        if asked and whole_path and not stuck:
            for_both.append(label)
    if not for_both:
        return
    who = "neither kernel copies" if len(for_both) == 2 else f"{for_both[0]} does not copy"
    early = [side.label for side in found.sides if side.routine.copied_at_last]
    besides = f" Before, the routine is copied to the control page by {' and '.join(early)}." if early else ""
    yield Finding(
        "in-place-copies-nothing",
        f"In place {who}: from machine_kexec to the entry there are stores only to machine_kexec's own "
        f"frame, and no loop over the list is entered.{besides}",
        tuple(f"{label}: diff-memory, diff-case PROVED" for label in for_both),
    )


def _relocating(found: Found, case: CaseDiff) -> Iterator[Finding]:
    if case.verdict is not Verdict.PROVED:
        return
    name = found.new.routine.name
    how = "the same bytes" if found.matched.same(name) else "different bytes"
    yield Finding(
        "relocating-same",
        "With a list both enter the routine with the same arguments, and leave it for the same entry in the "
        f"same state. The routines are {how}; each is proved to perform the steps of the same list machine, "
        "so memory is equal at the end.",
        ("diff-handover PROVED", "reloc-step, reloc-dest-pages, reloc-terminates PROVED on both sides"),
    )


def _tests(found: Found) -> Iterator[Finding]:
    places = found.tests
    where = {label: [at.partition("+")[0] for at in tests] for label, tests in places.items()}
    if where.get("OLD") == where.get("NEW"):
        return
    shown = [f"{label} at {', '.join(tests) or 'no address'}" for label, tests in places.items()]
    sentence = f"head is tested for IND_DONE by {'; by '.join(shown)}."
    routine = found.new.routine.name
    for label, other in (("OLD", "NEW"), ("NEW", "OLD")):
        mine = [at for at in places.get(label, []) if at.startswith(routine)]
        theirs = [at for at in places.get(other, []) if not at.startswith(routine)]
        if mine and not any(at.startswith(routine) for at in places.get(other, [])):
            sentence += f" {label}'s routine has the test itself ({', '.join(mine)}); {other}'s has none and "
            sentence += f"depends on the C code's test ({', '.join(theirs) or 'none was found'})."
    yield Finding("head-test", sentence, tuple(at for tests in places.values() for at in tests))


def _instruction_cache(found: Found, case: CaseDiff) -> Iterator[Finding]:
    """Yield a finding if only one of the kernels invalidates the instruction cache in place."""
    if found.icache.get("OLD") == found.icache.get("NEW"):
        return
    does = next((label for label in ("OLD", "NEW") if found.icache.get(label) is Verdict.PROVED), None)
    if does is None:
        return
    other = "NEW" if does == "OLD" else "OLD"
    mine = [
        f"{e.kind} at {', '.join(_of(e, does))}" for e in case.effects if _is_icache(e.kind) and _of(e, does)
    ]
    theirs = [at for e in case.effects if _is_icache(e.kind) for at in _of(e, other)]
    loaded = [at for e in found.loading if _is_icache(e.kind) for at in _of(e, other)]
    whole_path = f"only {', '.join(theirs)}" if theirs else "no such maintenance"
    load = f"only {', '.join(loaded)}" if loaded else "none either"
    rest = "" if theirs or loaded else ": no code does it"
    yield Finding(
        "in-place-icache",
        f"In place {does} invalidates the instruction cache before the entry ({'; '.join(mine)}), and "
        f"the invalidation is proved complete. {other} executes {whole_path} from machine_kexec to the "
        f"entry, and its machine_kexec_post_load {load} for an image in place{rest}.",
        (f"{does}: diff-icache PROVED", f"{other}: diff-icache {found.icache[other]}"),
    )


def _of(effect: object, label: str) -> tuple[str, ...]:
    return effect.old if label == "OLD" else effect.new  # type: ignore[attr-defined]


def _is_icache(kind: str) -> bool:
    if kind.startswith("ic "):
        return True
    found = contract(kind.removeprefix("call ")) if kind.startswith("call ") else None
    return found is not None and found.fetches is not None


def _other_effects(case: CaseDiff) -> Iterator[Finding]:
    for label, other in (("OLD", "NEW"), ("NEW", "OLD")):
        mine = [e for e in case.effects if _of(e, label) and not _of(e, other) and not _is_icache(e.kind)]
        if mine:
            shown = "; ".join(f"{e.kind} at {', '.join(_of(e, label))}" for e in mine)
            yield Finding(
                f"in-place-only-{label.lower()}",
                f"In place, before the entry, only {label} does: {shown}.",
                tuple(at for e in mine for at in _of(e, label)),
            )


def _loading(found: Found) -> Iterator[Finding]:
    for label, other in (("OLD", "NEW"), ("NEW", "OLD")):
        mine = [e for e in found.loading if _of(e, label) and not _of(e, other)]
        if mine:
            shown = "; ".join(f"{e.kind} at {', '.join(_of(e, label))}" for e in mine)
            yield Finding(
                f"loading-only-{label.lower()}",
                f"When an image in place is loaded, only {label}'s machine_kexec_post_load does: {shown}.",
                tuple(at for e in mine for at in _of(e, label)),
            )


def _null(found: Found, run: Entered, in_place: CaseDiff | None) -> Iterator[Finding]:
    """Yield findings about a routine that faults on a head with IND_DONE, and about what prevents that."""
    if not run.faults or not run.replayed:
        return
    side: Side = found.old if run.label == "OLD" else found.new
    null = int(run.address, 16) == 0 if run.address else False
    if run.set_at:
        kind = "a null pointer" if null else "a pointer"
        what = f"{kind}: {run.register} = {run.address}, set at {run.set_at}, never to a list page"
    else:
        what = f"an uninitialised pointer: {run.register} = {run.address}, set by no earlier instruction"
    guard: list[Query] = []
    if in_place is not None:
        guard = _proved(in_place, f"diff-{GUARD}", label=run.label)
    tests = [at for at in found.tests.get(run.label, []) if at.startswith("machine_kexec+")]
    if guard and tests:
        rests = f"It is safe because of the test in C, {', '.join(tests)}: the routine is proved to be "
        rests += "skipped for such a head."
    else:
        rests = "That it is never entered like this is not proved."
    others = [r for r in found.entered if r.label != run.label and not r.faults]
    beside = f" {others[0].label}'s routine, entered with the same head: {others[0].end}." if others else ""
    yield Finding(
        f"routine-done-{run.label.lower()}",
        f"{run.label}'s {side.routine.name}, entered with head = {run.head} (IND_DONE), uses {what}; "
        f"{run.end}, at {run.where}. {rests}{beside}",
        (f"{run.label}: a run of {len(run.steps)} instructions, replayed", *(q.sentence for q in guard)),
    )
