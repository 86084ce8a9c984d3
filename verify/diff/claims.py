"""Match obligations of two kernels by name and sentence, and find the changed bytes behind each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from kexec_verify.diff.address_names import without_offsets
from kexec_verify.diff.functions import Matched
from kexec_verify.diff.model import ObligationDiff, PropertyDiff
from kexec_verify.diff.side import Side
from kexec_verify.prove.discharge import Result
from kexec_verify.specs.properties import PROPERTIES
from kexec_verify.theorems import has_obligation

type Key = tuple[str, str]
type Grouped = dict[Key, list[tuple[str, Result]]]


@dataclass
class Claims:
    """The result of matching the obligations."""

    obligations: list[ObligationDiff]
    properties: list[PropertyDiff]


def match(old: Side, new: Side, functions: Matched) -> Claims:
    """Match the proof obligations of both kernels."""
    left, right = _grouped(old), _grouped(new)
    same: Counter[str] = Counter()
    diffs: list[ObligationDiff] = []
    for key in [*left, *(key for key in right if key not in left)]:
        kept, changed, gone, come = _split(left.get(key, []), right.get(key, []))
        same[key[0]] += kept
        if changed:
            olds, news = zip(*changed, strict=True)
            diffs.append(_diff(key, "changed", olds, news, old, new, functions))
        if gone:
            diffs.append(_diff(key, "only old", gone, (), old, new, functions))
        if come:
            diffs.append(_diff(key, "only new", (), come, old, new, functions))
    return Claims(diffs, list(_properties(old, new, same, diffs)))


def _grouped(side: Side) -> Grouped:
    found: Grouped = defaultdict(list)
    for result in side.all_results:
        obligation = result.obligation
        key = (obligation.name, side.places.sentence(obligation.sentence))
        found[key].append((without_offsets(side.places.unplaced(result.text)), result))
    return found


def _split(
    old: list[tuple[str, Result]], new: list[tuple[str, Result]]
) -> tuple[int, list[tuple[Result, Result]], list[Result], list[Result]]:
    """Return the number of equal ones, pairs that differ, and those that only one side has."""
    waiting: dict[str, int] = Counter(text for text, _ in new)
    gone: list[Result] = []
    kept = 0
    for text, result in old:
        if waiting[text]:
            waiting[text] -= 1
            kept += 1
        else:
            gone.append(result)
    come: list[Result] = []
    for text, result in reversed(new):
        if waiting[text]:
            waiting[text] -= 1
            come.append(result)
    come.reverse()
    pairs = list(zip(gone, come, strict=False))
    return kept, pairs, gone[len(pairs) :], come[len(pairs) :]


def _diff(
    key: Key,
    state: str,
    olds: Iterable[Result],
    news: Iterable[Result],
    old: Side,
    new: Side,
    functions: Matched,
) -> ObligationDiff:
    olds, news = list(olds), list(news)
    bytes_old = _bytes(olds, functions.changed_old, old)
    bytes_new = _bytes(news, functions.changed_new, new)
    cause = ""
    if not bytes_old and not bytes_new:
        cause = "no changed instruction lies on its path: it takes over what changed before, or a constant"
    count = max(len(olds), len(news))
    return ObligationDiff(key[0], key[1], state, count, bytes_old, bytes_new, cause)


def _bytes(results: list[Result], changed: set[int], side: Side) -> tuple[str, ...]:
    found: set[int] = set()
    for result in results:
        obligation = result.obligation
        found.update({*obligation.path, *((obligation.at,) if obligation.at is not None else ())} & changed)
    return tuple(side.places.name(at) for at in sorted(found))


def _properties(
    old: Side, new: Side, same: Counter[str], diffs: list[ObligationDiff]
) -> Iterable[PropertyDiff]:
    names = {result.obligation.name for side in (old, new) for result in side.all_results}
    for claim in PROPERTIES.values():
        left, right = old.finding(claim.id), new.finding(claim.id)
        if left is None and right is None:
            continue
        mine = {name for name in names if has_obligation(claim, name)}
        counts = Counter(diff.state for diff in diffs if diff.name in mine for _ in range(diff.count))
        reasons = [found.reason for found in (right, left) if found is not None and found.reason]
        yield PropertyDiff(
            claim.id,
            left.verdict if left is not None else None,
            right.verdict if right is not None else None,
            sum(same[n] for n in mine),
            counts["changed"],
            counts["only old"],
            counts["only new"],
            reasons[0] if reasons else "",
            left is not None and left.waiver is not None,
            right is not None and right.waiver is not None,
        )
