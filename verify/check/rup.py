"""Checks proofs of unsatisfiability, clause by clause, by reverse unit propagation.

A proof is a list of clauses. Each is accepted only if, supposing all its literals false,
unit propagation over the clauses so far meets a contradiction; then it follows from
them, and the last one, the empty clause, shows that nothing satisfies the first ones.
(E. Goldberg and Y. Novikov 2003; the format is DRAT's text form without its RAT steps,
M. Heule 2016.) Deletions only make the check quicker and cannot make it wrong.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from kexec_verify.errors import LimitError


class ProofError(Exception):
    """The proof does not show what it claims: which step, and why."""


class Checker:
    """The clauses that hold so far, with two watched literals each.

    :param variables: the number of the last variable.
    :param deadline: of ``time.process_time``, or None.
    """

    def __init__(self, variables: int, clauses: Iterable[Sequence[int]], deadline: float | None = None):
        # Indexed by literal: that of a negated variable counts from the lists' end.
        self._value = [0] * (2 * variables + 1)
        self._watches: list[list[list[int]]] = [[] for _ in range(2 * variables + 1)]
        self._trail: list[int] = []
        self._clauses: dict[tuple[int, ...], list[list[int]]] = {}
        self._variables = variables
        self._deadline = deadline
        self.refuted = False
        for clause in clauses:
            self._add(self._literals(clause))

    def _literals(self, clause: Sequence[int]) -> list[int]:
        if any(not 0 < abs(literal) <= self._variables for literal in clause):
            raise ProofError(f"a clause has a variable that the formula lacks: {list(clause)[:8]}")
        return list(dict.fromkeys(clause))

    def _assign(self, literal: int) -> None:
        self._value[literal] = 1
        self._value[-literal] = -1
        self._trail.append(literal)

    def _propagate(self, head: int) -> bool:
        """Follow units from the trail's position ``head``; True at a contradiction."""
        value, watches, trail = self._value, self._watches, self._trail
        while head < len(trail):
            false = -trail[head]
            head += 1
            watching = watches[false]
            kept: list[list[int]] = []
            keep = kept.append
            for place, clause in enumerate(watching):
                if not clause:
                    continue  # deleted
                if clause[0] == false:
                    clause[0], clause[1] = clause[1], false
                first = clause[0]
                if value[first] == 1:
                    keep(clause)
                    continue
                for index in range(2, len(clause)):
                    other = clause[index]
                    if value[other] != -1:
                        clause[1], clause[index] = other, false
                        watches[other].append(clause)
                        break
                else:
                    keep(clause)
                    if value[first] == -1:
                        kept.extend(watching[place + 1 :])
                        watches[false] = kept
                        return True
                    value[first] = 1
                    value[-first] = -1
                    trail.append(first)
            watches[false] = kept
        return False

    def _add(self, clause: list[int]) -> None:
        """Add ``clause`` to those that hold."""
        if self.refuted or any(-literal in clause for literal in clause):
            return
        value = self._value
        # Literals that can still be true come first: the first two are watched.
        clause.sort(key=lambda literal: value[literal] == -1)
        if not clause or value[clause[0]] == -1:
            self.refuted = True
            return
        if len(clause) > 1:
            self._clauses.setdefault(tuple(sorted(clause)), []).append(clause)
            self._watches[clause[0]].append(clause)
            self._watches[clause[1]].append(clause)
        if (len(clause) == 1 or value[clause[1]] == -1) and value[clause[0]] == 0:
            head = len(self._trail)
            self._assign(clause[0])
            self.refuted = self._propagate(head)

    def learn(self, clause: Sequence[int]) -> None:
        """Accept ``clause`` if it follows by unit propagation, and add it.

        :raises ProofError: if it does not follow so.
        :raises LimitError: if the deadline has passed.
        """
        if self._deadline is not None and time.process_time() > self._deadline:
            raise LimitError("the proof takes too long to check")
        literals = self._literals(clause)
        if self.refuted:
            return
        mark = len(self._trail)
        follows = False
        for literal in literals:
            if self._value[literal] == 1:
                follows = True
                break
            if self._value[literal] == 0:
                self._assign(-literal)
        follows = follows or self._propagate(mark)
        for literal in self._trail[mark:]:
            self._value[literal] = self._value[-literal] = 0
        del self._trail[mark:]
        if not follows:
            raise ProofError(f"a clause does not follow by unit propagation: {literals[:8]}")
        self._add(literals)

    def delete(self, clause: Sequence[int]) -> None:
        """Forget ``clause``, which loses nothing but time; one that is not there is passed over."""
        copies = self._clauses.get(tuple(sorted(set(clause))))
        if copies:
            copies.pop().clear()


def parse_proof(text: str) -> list[tuple[bool, tuple[int, ...]]]:
    """Return the steps of a proof in DRAT's text form: whether it is a deletion, and the clause.

    :raises ProofError: if a line is none.
    """
    steps = []
    for number, line in enumerate(text.splitlines(), 1):
        deletes = line.startswith("d ")
        try:
            *literals, end = map(int, (line[2:] if deletes else line).split())
        except ValueError as error:
            raise ProofError(f"line {number} is no step of a proof: {line[:40]!r}") from error
        if end or 0 in literals:
            raise ProofError(f"line {number} does not end with its only 0")
        steps.append((deletes, tuple(literals)))
    return steps


def check_proof(
    variables: int, clauses: Iterable[Sequence[int]], proof: str, deadline: float | None = None
) -> int:
    """Return the number of clauses that ``proof`` adds until it has the empty one.

    :raises ProofError: if it does not prove ``clauses`` unsatisfiable.
    :raises LimitError: if the deadline has passed.
    """
    checker = Checker(variables, clauses, deadline)
    learned = 0
    for deletes, clause in parse_proof(proof):
        if checker.refuted:
            break
        if deletes:
            checker.delete(clause)
        else:
            checker.learn(clause)
            learned += 1
    if not checker.refuted:
        raise ProofError("it never reaches the empty clause")
    return learned
