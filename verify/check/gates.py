"""And-inverter gates with sharing, and their clauses.

A literal is an int: 1 is true, -1 is false, others are gate outputs or inputs and their
negations. Gates are and, xor and if-then-else; constants fold and equal gates are one.
"""

from __future__ import annotations

from collections.abc import Sequence

TRUE = 1
FALSE = -1

type Bits = tuple[int, ...]
"""Literals of a bit-vector, the least significant first."""


class Gates:
    """A growing circuit and its clauses (Tseitin's encoding, both directions)."""

    def __init__(self) -> None:
        self.clauses: list[tuple[int, ...]] = [(TRUE,)]
        self.variables = 1
        self._known: dict[tuple[int, ...], int] = {}

    def input(self) -> int:
        """Return a fresh literal of which nothing is known."""
        self.variables += 1
        return self.variables

    def inputs(self, count: int) -> Bits:
        """Return fresh literals."""
        return tuple(self.input() for _ in range(count))

    def and_(self, a: int, b: int) -> int:
        """Return ``a and b``."""
        if FALSE in (a, b) or a == -b:
            return FALSE
        if a in (TRUE, b):
            return b
        if b == TRUE:
            return a
        key = (a, b) if a < b else (b, a)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self.input()
            self.clauses += [(-found, a), (-found, b), (found, -a, -b)]
        return found

    def or_(self, a: int, b: int) -> int:
        """Return ``a or b``."""
        return -self.and_(-a, -b)

    def xor(self, a: int, b: int) -> int:
        """Return whether ``a`` differs from ``b``."""
        if abs(a) == 1:
            return b if a == FALSE else -b
        if abs(b) == 1:
            return a if b == FALSE else -a
        if abs(a) == abs(b):
            return FALSE if a == b else TRUE
        # Negations move to the output, so that a gate is known however its inputs are negated.
        negated = (a < 0) != (b < 0)
        low, high = sorted((abs(a), abs(b)))
        key = (low, high, 0)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self.input()
            self.clauses += [
                (-found, low, high),
                (-found, -low, -high),
                (found, -low, high),
                (found, low, -high),
            ]
        return -found if negated else found

    def ite(self, condition: int, then: int, otherwise: int) -> int:
        """Return ``then`` where ``condition``, else ``otherwise``."""
        if condition == TRUE or then == otherwise:
            return then
        if condition == FALSE:
            return otherwise
        if then == -otherwise:
            return -self.xor(condition, then)
        if abs(then) == 1 or then in (condition, -condition):
            holds = then in (TRUE, condition)
            return self.or_(condition, otherwise) if holds else self.and_(-condition, otherwise)
        if abs(otherwise) == 1 or otherwise in (condition, -condition):
            holds = otherwise in (TRUE, -condition)
            return self.or_(-condition, then) if holds else self.and_(condition, then)
        if condition < 0:
            condition, then, otherwise = -condition, otherwise, then
        key = (condition, then, otherwise, 1)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self.input()
            self.clauses += [
                (-condition, -then, found),
                (-condition, then, -found),
                (condition, -otherwise, found),
                (condition, otherwise, -found),
            ]
        return found

    def all_(self, literals: Sequence[int]) -> int:
        """Return the conjunction of ``literals``."""
        result = TRUE
        for literal in literals:
            result = self.and_(result, literal)
        return result

    def equal(self, a: Bits, b: Bits) -> int:
        """Return whether ``a`` and ``b`` are the same bit for bit."""
        return self.all_([-self.xor(x, y) for x, y in zip(a, b, strict=True)])

    def add(self, a: Bits, b: Bits, carry: int = FALSE) -> tuple[Bits, int]:
        """Return the sum and the carry out."""
        total = []
        for x, y in zip(a, b, strict=True):
            half = self.xor(x, y)
            total.append(self.xor(half, carry))
            carry = self.ite(half, carry, x)
        return tuple(total), carry

    def less(self, a: Bits, b: Bits) -> int:
        """Return ``a < b``, both unsigned: there is no carry out of ``a + not b + 1``."""
        result = FALSE
        for x, y in zip(a, b, strict=True):
            result = self.ite(self.xor(x, y), y, result)
        return result

    def choose(self, condition: int, then: Bits, otherwise: Bits) -> Bits:
        """Return ``ite`` bit by bit."""
        return tuple(self.ite(condition, x, y) for x, y in zip(then, otherwise, strict=True))

    def assert_(self, literal: int) -> None:
        """Add the clause that ``literal`` holds."""
        self.clauses.append((literal,))
