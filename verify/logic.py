"""Terms: bit-vectors and formulas (claripy's), uninterpreted functions, and sums.

Everything above this module builds formulas with these names only, so that the
specs read as formulas and the solvers see nothing but SMT-LIB text.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kexec_verify import masks
from kexec_verify.parts_of_angr import claripy

masks.install()

type Term = Any
"""A claripy bit-vector."""

type Formula = Any
"""A claripy boolean."""

WORD = 64
TRUE: Formula = claripy.true()
FALSE: Formula = claripy.false()


def const(value: int, width: int = WORD) -> Term:
    """Return the bit-vector constant ``value`` modulo ``2**width``."""
    return claripy.BVV(value & ((1 << width) - 1), width)


def var(name: str, width: int = WORD) -> Term:
    """Return the bit-vector variable called ``name``; equal names are equal variables."""
    return claripy.BVS(name, width, explicit_name=True)


def And(*formulas: Formula) -> Formula:
    """Return the conjunction; of nothing it is true."""
    return claripy.And(*formulas) if formulas else TRUE


def Or(*formulas: Formula) -> Formula:
    """Return the disjunction; of nothing it is false."""
    return claripy.Or(*formulas) if formulas else FALSE


def Not(formula: Formula) -> Formula:
    """Return the negation."""
    return claripy.Not(formula)


def Implies(hypothesis: Formula, goal: Formula) -> Formula:
    """Return the implication."""
    return claripy.Or(claripy.Not(hypothesis), goal)


def If(condition: Formula, then: Term, otherwise: Term) -> Term:
    """Return ``then`` where ``condition`` holds, else ``otherwise``."""
    if then is otherwise:
        return then
    return claripy.If(condition, then, otherwise)


def ult(left: Term, right: Term) -> Formula:
    """Unsigned less-than."""
    return claripy.ULT(left, right)


def ule(left: Term, right: Term) -> Formula:
    """Unsigned less-or-equal."""
    return claripy.ULE(left, right)


def shift_right(value: Term, amount: Term) -> Term:
    """Return the logical shift to the right."""
    return claripy.LShR(value, amount)


def aligned(address: Term, size: int) -> Formula:
    """``address`` is a multiple of ``size``, a power of two."""
    return (address & (size - 1)) == 0


def within(address: Term, start: Term, length: Term | int) -> Formula:
    """``address`` lies in the ``length`` bytes from ``start``, modulo ``2**64``."""
    size = const(length) if isinstance(length, int) else length
    return ult(difference(address, start), size)


@dataclass(frozen=True)
class Application:
    """One application of an uninterpreted function; it is a term for the function's value."""

    function: str
    arguments: tuple[Term, ...]
    result: Term


class Function:
    """The uninterpreted function called ``name``, from 64-bit words to ``width`` bits.

    Functions of equal names are the same function. Each application is a variable that the SMT-LIB text
    defines
    as the function's value, so functional consistency is the solver's own rule.
    """

    def __init__(self, name: str, width: int = WORD):
        self.name = name
        self.width = width

    def __call__(self, *arguments: Term) -> Term:
        arguments = tuple(const(a) if isinstance(a, int) else normal(a) for a in arguments)
        key = (self.name, *(a.hash() for a in arguments))
        found = _INTERNED.get(key)
        if found is None:
            name = f"{self.name}@{len(_INTERNED)}"
            found = Application(self.name, arguments, var(name, self.width))
            _INTERNED[key] = _APPLICATIONS[name] = found
        assert found.result.length == self.width, self.name
        return found.result


_INTERNED: dict[tuple[Any, ...], Application] = {}
_APPLICATIONS: dict[str, Application] = {}  # by the name of the variable that represents it


def application(term: Term) -> Application | None:
    """Return the function application that ``term`` is, or None."""
    return _APPLICATIONS.get(term.args[0]) if term.op == "BVS" else None


def replace(term: Any, old: Term, new: Term, shallow: bool = False) -> Any:
    """Return the term or formula with ``new`` for ``old``, below functions as well unless ``shallow``."""
    if old.op == "BVS" and old.args[0] not in variables([term]):
        return term
    built: dict[int, Any] = {old.hash(): new}
    todo = [term]
    while todo:
        top = todo[-1]
        applied = None if shallow else application(top)
        parts = applied.arguments if applied else [arg for arg in top.args if hasattr(arg, "op")]
        missing = [part for part in parts if part.hash() not in built]
        if missing and top.hash() not in built:
            todo.extend(missing)
            continue
        todo.pop()
        if top.hash() in built:
            continue
        if applied:
            arguments = [built[part.hash()] for part in parts]
            built[top.hash()] = Function(applied.function, applied.result.length)(*arguments)
        elif not parts:
            built[top.hash()] = top
        else:
            args = [built[arg.hash()] if hasattr(arg, "op") else arg for arg in top.args]
            built[top.hash()] = _made(top.op, args)
    return built[term.hash()]


def _made(op: str, args: list[Any]) -> Any:
    """Return the term of claripy's operation ``op``, built with checked comparisons."""
    if op.startswith("__") and op != "__neg__" and op != "__invert__":
        return functools.reduce(getattr(operator, op), args)
    if op in ("__neg__", "__invert__"):
        return getattr(operator, op)(args[0])
    return getattr(claripy, op)(*args)


def _sum(term: Term, factor: int, parts: dict[int, list[Any]]) -> int:
    """Add ``factor * term`` to ``parts`` and return the constant part."""
    if term.op == "BVV":
        return factor * int(term.args[0])
    if term.op == "__add__":
        return sum(_sum(arg, factor, parts) for arg in term.args)
    if term.op == "__sub__":
        first, *rest = term.args
        return _sum(first, factor, parts) + sum(_sum(arg, -factor, parts) for arg in rest)
    if term.op == "__neg__":
        return _sum(term.args[0], -factor, parts)
    if term.op == "__mul__" and len(term.args) == 2 and term.args[0].op == "BVV":
        return _sum(term.args[1], factor * int(term.args[0].args[0]), parts)
    if term.op == "__mul__" and len(term.args) == 2 and term.args[1].op == "BVV":
        return _sum(term.args[0], factor * int(term.args[1].args[0]), parts)
    entry = parts.setdefault(term.hash(), [term, 0])
    entry[1] += factor
    return 0


_NUMBER = re.compile(r"@(\d+)")


def _padded(match: re.Match[str]) -> str:
    """Pad an application's number, so that 9 sorts before 10 however many there are."""
    return f"@{match[1]:0>12}"


def normal(term: Term) -> Term:
    """Return ``term`` as a sum in a canonical order, so that equal sums are equal terms."""
    if term.op not in ("__add__", "__sub__", "__neg__"):
        return term
    width = term.length
    modulus = 1 << width
    parts: dict[int, list[Any]] = {}
    constant = _sum(term, 1, parts) % modulus
    result: Term | None = None
    terms = sorted(parts.values(), key=lambda part: _NUMBER.sub(_padded, str(part[0])))
    # Positive parts first: a sum that starts with a variable prints as people write it.
    for base, factor in sorted(terms, key=lambda part: part[1] % modulus > modulus // 2):
        factor %= modulus
        if not factor:
            continue
        if factor == 1:
            result = base if result is None else result + base
        elif factor == modulus - 1 and result is not None:
            result = result - base
        else:
            scaled = base * const(factor, width)
            result = scaled if result is None else result + scaled
    if result is None:
        return const(constant, width)
    return result + const(constant, width) if constant else result


def addends(term: Term) -> list[Term]:
    """Return the addends with factor 1 of ``term``, a sum in canonical order."""
    parts: dict[int, list[Any]] = {}
    _sum(term, 1, parts)
    return [part for part, factor in parts.values() if factor == 1]


def difference(left: Term, right: Term) -> Term:
    """Return ``left - right`` with common parts cancelled."""
    return normal(left - right)


def same(left: Term, right: Term) -> bool:
    """Return whether both are the same term."""
    return bool(left.hash() == right.hash())


def constant(term: Term) -> int | None:
    """Return the value of a term that is a constant, else None."""
    return int(term.args[0]) if term.op == "BVV" else None


def offset_from(term: Term, base: Term) -> int | None:
    """Return ``term - base`` if that is a constant (signed, in bytes), else None."""
    value = constant(difference(term, base))
    return None if value is None else value - (1 << WORD) if value >> (WORD - 1) else value


def variables(terms: Iterable[Term | Formula]) -> list[str]:
    """Return the names of the variables in ``terms``, arguments of applications included."""
    names: dict[str, None] = {}
    todo = list(terms)
    while todo:
        for name in sorted(todo.pop().variables):
            if name not in names:
                names[name] = None
                if name in _APPLICATIONS:
                    todo.extend(_APPLICATIONS[name].arguments)
    return list(names)
