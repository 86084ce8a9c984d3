"""Format a comparison of two kernels as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from kexec_verify.diff.model import (
    CaseDiff,
    Comparison,
    Effect,
    Entered,
    ObligationDiff,
    PropertyDiff,
    Target,
)
from kexec_verify.diff.whole_paths import IN_PLACE
from kexec_verify.verdict import Verdict

_WIDTH = 116
_SHOWN_INSTRUCTIONS = 6
_SHOWN_STEPS = 20


def format_comparison(found: Comparison) -> Iterator[str]:
    """Yield the lines of the comparison for a terminal, without colour."""
    yield from _targets(found)
    yield from _same(found)
    yield from _functions(found)
    yield from _properties(found)
    for case in found.cases:
        yield from _case(case, found)
    for run in found.entered:
        yield from _run(run)
    yield "findings"
    for finding in found.findings:
        yield from _wrapped(finding.sentence, "  - ", "    ")
    yield ""
    parts = ", ".join(f"{_heading(case)} {case.verdict}" for case in found.cases)
    yield f"same entry, same state, same memory: {found.verdict} ({parts}) in {found.seconds:.1f} s"


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _targets(found: Comparison) -> Iterator[str]:
    for label, target in (("OLD", found.old), ("NEW", found.new)):
        yield f"{label}  {_target(target)}"
        yield f"     sha256 {target.sha256}"
    for trouble in found.troubles:
        yield from _wrapped(trouble, "  not covered: ", "    ")
    yield ""


def _target(target: Target) -> str:
    version = f", Linux {target.version}" if target.version else ""
    pages = f"{target.page_size // 1024} KiB pages"
    variant = f"; ABI variant {target.variant}, {pages}" if target.variant else ""
    return f"{target.name}{version}{variant}"


def _same(found: Comparison) -> Iterator[str]:
    yield "what is equal"
    functions = [f.name for f in found.functions if f.state == "same"]
    yield from _wrapped(", ".join(functions) or "no function", "  functions    ", "               ")
    properties = [p for p in found.properties if not _differs(p)]
    count = sum(p.same for p in found.properties)
    yield f"  obligations  {count} are equal; {len(properties)} properties have only equal ones"
    yield ""


def _functions(found: Comparison) -> Iterator[str]:
    changed = [f for f in found.functions if f.state != "same"]
    if not changed:
        return
    yield "what changed"
    for function in changed:
        sizes = f"{function.old_size} → {function.new_size} bytes"
        if function.state != "changed":
            yield f"  {function.name}: {function.state}, {function.old_size or function.new_size} bytes"
            continue
        counts = f"{function.old_changed} instructions for {function.new_changed}"
        yield f"  {function.name}: {sizes}, {counts}"
        for hunk in function.hunks:
            yield f"    @ OLD {hunk.old_at}  NEW {hunk.new_at}"
            yield from _side("-", hunk.old)
            yield from _side("+", hunk.new)
    yield ""


def _side(sign: str, lines: tuple[str, ...]) -> Iterator[str]:
    for line in lines[:_SHOWN_INSTRUCTIONS]:
        yield f"      {sign} {line}"
    if len(lines) > _SHOWN_INSTRUCTIONS:
        yield f"      {sign} … {len(lines) - _SHOWN_INSTRUCTIONS} more"


def _differs(diff: PropertyDiff) -> bool:
    return bool(diff.changed or diff.only_old or diff.only_new) or _verdicts(diff)[0] != _verdicts(diff)[1]


def _verdicts(diff: PropertyDiff) -> tuple[str, str]:
    """Return both verdicts in the words of `verify run`."""
    sides = ((diff.old, diff.old_waived), (diff.new, diff.new_waived))
    old, new = (f"{verdict or '-'}{' (waived)' if waived else ''}" for verdict, waived in sides)
    return old, new


def _properties(found: Comparison) -> Iterator[str]:
    differing = [p for p in found.properties if _differs(p)]
    if not differing:
        return
    yield "affected properties"
    by_name: dict[str, list[ObligationDiff]] = {}
    for diff in found.obligations:
        by_name.setdefault(diff.name, []).append(diff)
    yield f"  {'property':<24} {'OLD':<16} {'NEW':<16} same changed only-old only-new"
    for p in differing:
        counts = f"{p.same:>4} {p.changed:>7} {p.only_old:>8} {p.only_new:>8}"
        old, new = _verdicts(p)
        yield f"  {p.id:<24} {old:<16} {new:<16} {counts}"
        if p.reason and old != new:
            yield from _wrapped(p.reason, "      ", "      ")
    yield "  changed instructions on their paths:"
    for name, diffs in by_name.items():
        old = ranges(at for diff in diffs for at in diff.bytes_old)
        new = ranges(at for diff in diffs for at in diff.bytes_new)
        shown = [f"OLD {old}"] * bool(old) + [f"NEW {new}"] * bool(new)
        text = "; ".join(shown) or diffs[0].cause
        yield from _wrapped(f"{name}: {text}", "    ", "      ")
    yield ""


def ranges(places: Iterable[str]) -> str:
    """Return addresses of the form ``symbol+offset`` as text, consecutive instructions as ranges."""
    offsets: dict[str, set[int]] = {}
    for place in places:
        symbol, _, offset = place.rpartition("+")
        offsets.setdefault(symbol or place, set()).add(int(offset, 16) if symbol else 0)
    shown = []
    for symbol, found in offsets.items():
        runs: list[list[int]] = []
        for at in sorted(found):
            if runs and at == runs[-1][1] + 4:
                runs[-1][1] = at
            else:
                runs.append([at, at])
        parts = [f"+{first:#x}" if first == last else f"+{first:#x}..{last:#x}" for first, last in runs]
        shown.append(f"{symbol} {','.join(parts)}")
    return "; ".join(shown)


def _heading(case: CaseDiff) -> str:
    return "in place" if case.case == IN_PLACE else "relocating"


def _case(case: CaseDiff, found: Comparison) -> Iterator[str]:
    yield f"{_heading(case)} ({case.case}): {case.verdict}"
    for label, whole_paths in (("OLD", case.old_way), ("NEW", case.new_way)):
        for whole_path in whole_paths:
            yield f"  {label}  {whole_path}"
    proved = sum(q.verdict is Verdict.PROVED for q in case.queries)
    if case.queries:
        asked = f"{proved}/{len(case.queries)} queries proved"
        yield f"  {asked}: the same entry, x0 to x3, MMU off, interrupts masked, memory"
    for query in case.queries:
        if query.verdict is not Verdict.PROVED:
            yield from _wrapped(f"{query.verdict}: {query.name}: {query.sentence}", "  ", "    ")
            for name, value in query.model.items():
                yield f"      {name} = {value}"
    for why in case.open:
        yield from _wrapped(why, "  undecided: ", "    ")
    rests = sorted({sentence.partition(": ")[2] for sentence in case.rests_on})
    for sentence in rests:
        yield from _wrapped(sentence, "  depends on: ", "    ")
    differing = [e for e in case.effects if bool(e.old) != bool(e.new)]
    yield from _effects("before the entry", differing)
    if case.case == IN_PLACE:
        yield from _effects("when loaded", [e for e in found.loading if bool(e.old) != bool(e.new)])
    yield ""


def _effects(when: str, effects: list[Effect]) -> Iterator[str]:
    for effect in effects:
        label = "OLD" if effect.old else "NEW"
        yield f"  {when}, only {label}: {effect.kind} at {', '.join(effect.old or effect.new)}"


def _run(run: Entered) -> Iterator[str]:
    replayed = "replayed: confirmed" if run.replayed else "the replay differs"
    yield f"{run.label}'s routine entered with head = {run.head} ({replayed})"
    for step in run.steps[-_SHOWN_STEPS:]:
        changed = ", ".join(f"{name} = {value}" for name, value in step.changed.items())
        yield f"    {step.where:<38} {step.text}" + (f"  → {changed}" if changed else "")
    yield f"  {run.end}"
    yield ""
