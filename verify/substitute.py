"""Substitute terms for variables, and values for uninterpreted functions."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import Formula, Function, If, Term, application, same
from kexec_verify.parts_of_angr import claripy

type Variable = Callable[[str, int], "Term | None"]
"""From a variable's name and width to its replacement; None if it stays."""

type Apply = Callable[[str, int, tuple[Term, ...]], "Term | None"]
"""From a function's name, width and arguments (substituted already) to its value; None if it stays."""

_NARY: dict[str, Callable[..., Any]] = {
    "__add__": operator.add,
    "__sub__": operator.sub,
    "__mul__": operator.mul,
    "__and__": operator.and_,
    "__or__": operator.or_,
    "__xor__": operator.xor,
}
_OTHERS: dict[str, Callable[..., Any]] = {
    "__lshift__": operator.lshift,
    "__rshift__": operator.rshift,
    "__floordiv__": operator.floordiv,
    "__mod__": operator.mod,
    "__neg__": operator.neg,
    "__invert__": operator.invert,
    "__eq__": operator.eq,
    "__ne__": operator.ne,
    "LShR": claripy.LShR,
    "ULT": claripy.ULT,
    "ULE": claripy.ULE,
    "UGT": claripy.UGT,
    "UGE": claripy.UGE,
    "SLT": claripy.SLT,
    "SLE": claripy.SLE,
    "SGT": claripy.SGT,
    "SGE": claripy.SGE,
    "And": claripy.And,
    "Or": claripy.Or,
    "Not": claripy.Not,
    "Concat": claripy.Concat,
}


class Substitution:
    """Replaces variables and functions simultaneously; equal terms are replaced once."""

    def __init__(self, variable: Variable, apply: Apply | None = None):
        self._variable = variable
        self._apply = apply
        self._done: dict[int, Any] = {}

    def __call__(self, term: Term | Formula) -> Any:
        """Return ``term`` with the replacements made.

        :raises UnsupportedError: for an operation that cannot be built anew.
        """
        todo = [term]
        while todo:
            top = todo[-1]
            key = top.hash()
            if key in self._done:
                todo.pop()
                continue
            missing = [child for child in _children(top) if child.hash() not in self._done]
            if missing:
                todo.extend(missing)
                continue
            todo.pop()
            self._done[key] = self._replaced(top)
        return self._done[term.hash()]

    def _replaced(self, term: Term | Formula) -> Any:
        children = [self._done[child.hash()] for child in _children(term)]
        if term.op == "BVS":
            return self._leaf(term, tuple(children))
        if all(same(new, old) for new, old in zip(children, _children(term), strict=True)):
            return term
        return _built(term, children)

    def _leaf(self, term: Term, arguments: tuple[Term, ...]) -> Term:
        applied = application(term)
        if applied is None:
            found = self._variable(term.args[0], term.length)
            return term if found is None else found
        if self._apply is not None:
            found = self._apply(applied.function, term.length, arguments)
            if found is not None:
                return found
        return Function(applied.function, term.length)(*arguments)


def _children(term: Term | Formula) -> Sequence[Any]:
    if term.op == "BVS":
        applied = application(term)
        return applied.arguments if applied else ()
    return [arg for arg in term.args if hasattr(arg, "op")]


def _built(term: Term | Formula, children: Sequence[Any]) -> Any:
    match term.op:
        case "Extract":
            return children[0][term.args[0] : term.args[1]]
        case "ZeroExt":
            return children[0].zero_extend(term.args[0])
        case "SignExt":
            return children[0].sign_extend(term.args[0])
        case "If":
            condition, then, otherwise = children
            if condition.is_true():
                return then
            return otherwise if condition.is_false() else If(condition, then, otherwise)
        case op if op in _NARY:
            return reduce(_NARY[op], children)
        case op if op in _OTHERS:
            return _OTHERS[op](*children)
    raise UnsupportedError(f"claripy operation {term.op}")


def substitute(term: Term | Formula, variable: Variable, apply: Apply | None = None) -> Any:
    """Return ``term`` with variables and functions replaced, also in arguments of functions that stay."""
    return Substitution(variable, apply)(term)
