"""Compare masked terms with constants, which claripy simplifies wrongly.

angr 10.0.5's claripy turns ``(x & 0xff0) == 8`` into ``x[11:4] == 0``: it compares the bits under the mask
and
forgets that the constant has others, which no value of the term can match. Its comparison operators are
replaced here by ones that look at those bits first. claripy's own ``replace`` does not use them, so
verify.logic.replace must be used instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kexec_verify.parts_of_angr import claripy

_DEPTH = 64  # of terms looked into; below it nothing is known, which is right of any term
_SWAPPED = {
    **{"__eq__": "__eq__", "__ne__": "__ne__"},
    **{"ULT": "UGT", "ULE": "UGE", "UGT": "ULT", "UGE": "ULE"},
}
_OPERATORS = {"__lt__": "ULT", "__le__": "ULE", "__gt__": "UGT", "__ge__": "UGE"}

type _Compare = Callable[[Any, Any], Any]


def _looked_into(known: dict[int, int], look: Callable[[Any, int], int], term: Any, depth: int) -> int:
    """Return the bits that ``look`` finds of ``term``; shared parts of a term are looked into once."""
    key = term.hash()
    if key not in known:
        if depth == 0:
            return 0
        known[key] = look(term, depth)
    return known[key]


_ZERO: dict[int, int] = {}
_ONE: dict[int, int] = {}


def known_zero(term: Any, depth: int = _DEPTH) -> int:
    """Return the bits of ``term``, a bit-vector, that are zero for all values of its variables."""
    return _looked_into(_ZERO, _known_zero, term, depth)


def _known_zero(term: Any, depth: int) -> int:
    full = (1 << term.length) - 1
    if term.op == "BVV":
        return full & ~int(term.args[0])
    match term.op:
        case "__and__":
            zero = 0
            for arg in term.args:
                zero |= known_zero(arg, depth - 1)
            return zero
        case "__or__" | "__xor__":
            zero = full
            for arg in term.args:
                zero &= known_zero(arg, depth - 1)
            return zero
        case "If":
            return known_zero(term.args[1], depth - 1) & known_zero(term.args[2], depth - 1)
        case "Extract":
            high, low, inner = term.args
            return known_zero(inner, depth - 1) >> low & (1 << high - low + 1) - 1
        case "ZeroExt":
            added, inner = term.args
            return known_zero(inner, depth - 1) | (full & ~((1 << term.length - added) - 1))
        case "SignExt":
            added, inner = term.args
            zero = known_zero(inner, depth - 1)
            sign = zero >> inner.length - 1 & 1
            return zero | (full & ~((1 << inner.length) - 1) if sign else 0)
        case "Concat":
            zero = 0
            for arg in term.args:
                zero = zero << arg.length | known_zero(arg, depth - 1)
            return zero
        case "__lshift__" | "LShR" | "__rshift__" if term.args[1].op == "BVV":
            amount = min(int(term.args[1].args[0]), term.length)
            zero = known_zero(term.args[0], depth - 1)
            if term.op == "__lshift__":
                return (zero << amount | (1 << amount) - 1) & full
            high = full & ~(full >> amount)
            if term.op == "LShR" or zero >> term.length - 1:
                return zero >> amount | high
            return zero >> amount & ~high
    return 0


def known_one(term: Any, depth: int = _DEPTH) -> int:
    """Return the bits of ``term``, a bit-vector, that are one for all values of its variables."""
    return _looked_into(_ONE, _known_one, term, depth)


def _known_one(term: Any, depth: int) -> int:
    full = (1 << term.length) - 1
    match term.op:
        case "BVV":
            return int(term.args[0])
        case "__and__":
            one = full
            for arg in term.args:
                one &= known_one(arg, depth - 1)
            return one
        case "__or__":
            one = 0
            for arg in term.args:
                one |= known_one(arg, depth - 1)
            return one
        case "If":
            return known_one(term.args[1], depth - 1) & known_one(term.args[2], depth - 1)
        case "Extract":
            high, low, inner = term.args
            return known_one(inner, depth - 1) >> low & (1 << high - low + 1) - 1
        case "ZeroExt":
            return known_one(term.args[1], depth - 1)
        case "Concat":
            one = 0
            for arg in term.args:
                one = one << arg.length | known_one(arg, depth - 1)
            return one
        case "__lshift__" if term.args[1].op == "BVV":
            return known_one(term.args[0], depth - 1) << min(int(term.args[1].args[0]), term.length) & full
        case "LShR" if term.args[1].op == "BVV":
            return known_one(term.args[0], depth - 1) >> min(int(term.args[1].args[0]), term.length)
    return 0


def _equal(term: Any, value: int) -> tuple[Any, int, bool]:
    """Move constants in ``term == value`` to the right; return left side, value, and whether it can hold."""
    full = (1 << term.length) - 1
    while term.op in ("__add__", "__sub__", "__neg__", "__invert__", "__xor__"):
        if term.op == "__neg__":
            term, value = term.args[0], -value & full
            continue
        if term.op == "__invert__":
            term, value = term.args[0], ~value & full
            continue
        others = [(i, arg) for i, arg in enumerate(term.args) if arg.op != "BVV"]
        if len(others) != 1:
            break
        at, inner = others[0]
        constants = [int(arg.args[0]) for i, arg in enumerate(term.args) if i != at]
        if term.op == "__xor__":
            for constant in constants:
                value ^= constant
        elif term.op == "__add__":
            value -= sum(constants)
        elif at == 0:
            value += sum(constants)
        else:
            value = constants[0] - sum(constants[1:]) - value
        term, value = inner, value & full
    return term, value, not known_zero(term) & value


def _checked(name: str, builtin: _Compare) -> _Compare:
    def compare(left: Any, right: Any) -> Any:
        if isinstance(left, int) or (getattr(left, "op", "") == "BVV" and getattr(right, "op", "") != "BVV"):
            if hasattr(right, "op"):
                return _against(_SWAPPED[name], right, left)
        return _against(name, left, right)

    def _against(name: str, term: Any, other: Any) -> Any:
        value = other if isinstance(other, int) else None
        if getattr(other, "op", "") == "BVV":
            value = int(other.args[0])
        if value is None or getattr(term, "op", "BVV") == "BVV" or not isinstance(term, claripy.ast.BV):
            return _BUILTIN[name](term, other)
        value &= (1 << term.length) - 1
        if name in ("__eq__", "__ne__"):
            if _equal(term, value)[2]:
                return _BUILTIN[name](term, other)
            return claripy.true() if name == "__ne__" else claripy.false()
        zero = known_zero(term)
        if not zero & value:
            return _BUILTIN[name](term, other)
        return _ordered(name, term, zero, value)

    return compare


def _ordered(name: str, term: Any, zero: int, value: int) -> Any:
    """Return the comparison with the nearest constant that ``term`` may have."""
    most = (1 << term.length) - 1 & ~zero
    step = most & -most if most else 1
    # The term is a multiple of step and at most ``most``, and not equal to the constant.
    bound = -(-value // step) * step
    below = name in ("ULT", "ULE")
    if bound > most or zero & bound:
        if bound > most:
            return claripy.true() if below else claripy.false()
        return _BUILTIN[name](term, claripy.BVV(value, term.length))  # a mask with holes is let be
    return _BUILTIN["ULT" if below else "UGE"](term, claripy.BVV(bound, term.length))


_BUILTIN: dict[str, _Compare] = {}


def install() -> None:
    """Replace claripy's comparisons by the checked ones, once."""
    if _BUILTIN:
        return
    bit_vector = claripy.ast.BV
    for name in ("__eq__", "__ne__"):
        _BUILTIN[name] = getattr(bit_vector, name)
    for name in ("ULT", "ULE", "UGT", "UGE"):
        _BUILTIN[name] = getattr(claripy, name)
    for name in ("__eq__", "__ne__"):
        setattr(bit_vector, name, _checked(name, _BUILTIN[name]))
    for name in ("ULT", "ULE", "UGT", "UGE"):
        checked = _checked(name, _BUILTIN[name])
        setattr(claripy, name, checked)
        setattr(bit_vector, name, checked)
    for operator, name in _OPERATORS.items():
        setattr(bit_vector, operator, _checked(name, _BUILTIN[name]))
