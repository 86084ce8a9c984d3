"""Comparisons with constants, against evaluation of the texts that are made of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from kexec_verify.cosim.meaning import _expression
from kexec_verify.logic import FALSE, TRUE, Function, If, Not, const, replace, same, ult, var, variables
from kexec_verify.masks import known_zero
from kexec_verify.parts_of_angr import claripy
from kexec_verify.prove.evaluate import compile_terms
from kexec_verify.prove.read import read
from kexec_verify.prove.smtlib import Printer

WIDTH = 8
X, Y, Z = (var(name, WIDTH) for name in "xyz")
WIDE = var("wide")

type Value = Callable[[Mapping[str, int]], int]


def evaluated(term: Any, values: Mapping[str, int]) -> int:
    printer = Printer()
    name = printer.name(term)
    script = read("\n".join([*printer.declarations, *printer.definitions, "(check-sat)"]))
    named = {f"|{key}|": value for key, value in values.items()}
    (found,) = compile_terms(script, [script.term(_expression(name))])({**values, **named}, {})
    return int(found)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (lambda: (WIDE & ~0xFFF) == 0x1001, FALSE),
        (lambda: (WIDE & ~0xFFF) != 0x1001, TRUE),
        (lambda: const(0x1001) == (WIDE & ~0xFFF), FALSE),
        (lambda: (WIDE & 0xFFF) == 0x1001, FALSE),
        (lambda: (WIDE & 0xFF0) - 8 == 0, FALSE),
        (lambda: (WIDE & 0xFF0)[11:0] == 8, FALSE),
        (lambda: (X & 0xF0).zero_extend(56) == 8, FALSE),
        (lambda: (If(X == 0, const(1), const(0)) & 1) == 3, FALSE),
        (lambda: ult(WIDE & 0xFF0, const(0x1000)), TRUE),
        (lambda: claripy.UGT(WIDE & 0xFF0, const(0xFFF)), FALSE),
        (lambda: replace(var("other") == (WIDE & 0xFF0), var("other"), const(8)), FALSE),
    ],
)
def test_a_constant_with_bits_outside_the_mask_is_never_met(formula, expected):
    assert same(formula(), expected)


def test_claripy_still_needs_this():
    """Once claripy does not forget the bits outside of a mask, this fails and the module can go."""
    wrong = claripy.replace(var("other") == (WIDE & 0xFF0), var("other"), const(8))
    assert evaluated(wrong, {"wide": 0, "other": 0}) == 1


def test_a_replaced_term_and_a_shallow_replacement():
    line = WIDE & ~0x3F
    assert same(replace(line + 8, line, const(64)), const(72))
    function = Function("f")
    kept = replace(function(WIDE) + WIDE, WIDE, const(1), shallow=True)
    assert same(kept, function(WIDE) + 1)


def test_order_is_kept_with_a_constant_between_two_values():
    below = ult(X & 0xF0, const(3, WIDTH))
    assert [evaluated(below, {"x": x}) for x in (0, 0x0F, 0x10, 0xFF)] == [1, 1, 0, 0]


def test_replace_reaches_arguments_of_functions():
    function = Function("f")
    found = replace(function(WIDE + 8) == function(const(3)), WIDE, const(5))
    assert variables([found]) == variables([function(const(13)) == function(const(3))])
    assert same(replace(function(WIDE + 8), WIDE, const(5)), function(const(13)))


def test_replace_leaves_what_has_no_such_variable():
    term = Function("f")(WIDE)
    assert replace(term, var("absent"), const(0)) is term


def full(width: int) -> int:
    return (1 << width) - 1


def signed(value: int, width: int) -> int:
    return value - (1 << width) if value >> width - 1 else value


def some_constant(rng: random.Random, width: int) -> int:
    low = rng.randrange(width)
    return rng.choice(
        (
            rng.getrandbits(width),
            rng.choice((0, 1, full(width), 1 << width - 1)),
            full(rng.randrange(1, width - low + 1)) << low,
            full(width) << low & full(width),
            1 << low,
        )
    )


def some_term(rng: random.Random, width: int, depth: int) -> tuple[Any, Value]:
    """A term, and its value by rules that are written here once more."""
    kind = rng.randrange(2, 13) if depth else rng.randrange(2)
    if kind == 0:
        value = some_constant(rng, width)
        return const(value, width), lambda values: value
    if kind == 1:
        name = rng.choice("xyz")
        if width > WIDTH:
            return var(name, WIDTH).zero_extend(width - WIDTH), lambda values: values[name]
        low = rng.randrange(WIDTH - width + 1)
        return var(name, WIDTH)[low + width - 1 : low], lambda values: values[name] >> low & full(width)
    a, f = some_term(rng, width, depth - 1)
    b, g = some_term(rng, width, rng.randrange(2) and depth - 1)
    shift = rng.randrange(width)
    match kind:
        case 2 | 3:
            return a & b, lambda values: f(values) & g(values)
        case 4:
            return a | b, lambda values: f(values) | g(values)
        case 5:
            return a ^ b, lambda values: f(values) ^ g(values)
        case 6:
            return a + b, lambda values: f(values) + g(values) & full(width)
        case 7:
            return a - b, lambda values: f(values) - g(values) & full(width)
        case 8:
            return a << const(shift, width), lambda values: f(values) << shift & full(width)
        case 9:
            return claripy.LShR(a, const(shift, width)), lambda values: f(values) >> shift
        case 10:
            right = lambda values: signed(f(values), width) >> shift & full(width)  # noqa: E731
            return a >> const(shift, width), right
        case 11:
            condition, h = some_formula(rng, depth - 1)
            return If(condition, a, b), lambda values: f(values) if h(values) else g(values)
    low = rng.randrange(3)
    inner, h = some_term(rng, width + 2, depth - 1)
    return inner[low + width - 1 : low], lambda values: h(values) >> low & full(width)


COMPARISONS = {
    "eq": (lambda a, b: a == b, lambda a, b, _: a == b),
    "ne": (lambda a, b: a != b, lambda a, b, _: a != b),
    "ult": (claripy.ULT, lambda a, b, _: a < b),
    "ule": (claripy.ULE, lambda a, b, _: a <= b),
    "ugt": (claripy.UGT, lambda a, b, _: a > b),
    "uge": (claripy.UGE, lambda a, b, _: a >= b),
    "slt": (claripy.SLT, lambda a, b, w: signed(a, w) < signed(b, w)),
    "sle": (claripy.SLE, lambda a, b, w: signed(a, w) <= signed(b, w)),
    "sgt": (claripy.SGT, lambda a, b, w: signed(a, w) > signed(b, w)),
    "sge": (claripy.SGE, lambda a, b, w: signed(a, w) >= signed(b, w)),
}


def some_formula(rng: random.Random, depth: int) -> tuple[Any, Value]:
    width = rng.choice((1, 4, 8, 8, 12))
    build, meaning = COMPARISONS[rng.choice(sorted(COMPARISONS))]
    a, f = some_term(rng, width, depth)
    b, g = some_term(rng, width, 0)
    if rng.randrange(2):
        value = some_constant(rng, width)
        b, g = const(value, width), lambda values: value
    if rng.randrange(4) == 0:
        a, b, f, g = b, a, g, f
    formula, holds = build(a, b), lambda values: int(meaning(f(values), g(values), width))
    if rng.randrange(4) == 0:
        return Not(formula), lambda values: 1 - holds(values)
    return formula, holds


@pytest.mark.parametrize("seed", range(20))
def test_a_built_formula_says_what_its_parts_say(seed):
    rng = random.Random(seed)
    for _ in range(200):
        formula, meaning = some_formula(rng, rng.randrange(1, 4))
        for _ in range(8):
            values = {name: rng.choice((rng.getrandbits(WIDTH), 0, 255, 128)) for name in "xyz"}
            assert evaluated(formula, values) == meaning(values), (formula, values)


@pytest.mark.parametrize("seed", range(5))
def test_bits_that_are_known_to_be_zero_are_zero(seed):
    rng = random.Random(seed)
    for _ in range(200):
        term, _ = some_term(rng, rng.choice((4, 8, 12)), 3)
        values = {name: rng.getrandbits(WIDTH) for name in "xyz"}
        assert not evaluated(term, values) & known_zero(term)
