"""Weaken hypotheses: shift a bound by one, or leave out one known bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kexec_verify.logic import And, Formula, Or, Term, const, constant, ule

BOUND, BIT = "with a bound that is one off", "with one bit less"
_BELOW, _ABOVE, _STRICT = ("ULE", "ULT"), ("UGE", "UGT"), ("ULT", "UGT")


def weaker(formula: Formula) -> Iterator[tuple[str, Formula]]:
    """Yield each way to weaken ``formula``, in words, with the weaker formula: it follows and is not
    equivalent.

    Of a conjunction one part is weakened at a time; negations and general equations are left alone.
    """
    match formula.op:
        case "And":
            yield from _parts(formula, And)
        case "Or":
            yield from _parts(formula, Or)
        case "__eq__":
            found = _less_known(*formula.args)
            if found is not None:
                yield BIT, found
        case op if op in _BELOW or op in _ABOVE:
            left, right = formula.args if op in _BELOW else reversed(formula.args)
            found = _one_off(left, right, op in _STRICT)
            if found is not None:
                yield BOUND, found


def _parts(formula: Formula, put_together: Callable[..., Formula]) -> Iterator[tuple[str, Formula]]:
    parts = list(formula.args)
    for number, part in enumerate(parts):
        for how, found in weaker(part):
            yield how, put_together(*parts[:number], found, *parts[number + 1 :])


def _one_off(left: Term, right: Term, strict: bool) -> Formula | None:
    """``left`` is at most ``right``, or one more than that."""
    low, high, top = constant(left), constant(right), (1 << left.length) - 1
    if high is not None:
        bound = high if strict else high + 1
        return ule(left, const(bound, left.length)) if 0 < bound < top else None
    if low is not None:
        bound = low if strict else low - 1
        return ule(const(bound, left.length), right) if bound > 0 else None
    return ule(left, right) if strict else Or(ule(left, right), left == right + 1)


def _less_known(left: Term, right: Term) -> Formula | None:
    """If some bits of a term are known, then all except the highest of them are."""
    term, value = (left, constant(right)) if constant(right) is not None else (right, constant(left))
    if value is None:
        return None
    if term.op == "Extract":
        high, low, of = term.args
        return of[high - 1 : low] == value & (1 << high - low) - 1 if high > low else None
    if term.op == "__and__":
        masks = [constant(arg) for arg in term.args]
        mask = next((found for found in masks if found is not None), None)
        of = next((arg for arg, found in zip(term.args, masks, strict=True) if found is None), None)
        if mask is not None and of is not None and len(masks) == 2:
            less = mask & ~(1 << mask.bit_length() - 1)
            return (of & less) == value & less if less else None
    return None
