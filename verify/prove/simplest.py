"""Readable models: one that satisfies as many optional constraints (wishes) as possible."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kexec_verify.logic import Formula, var
from kexec_verify.obligation import Facts
from kexec_verify.prove.smtlib import script
from kexec_verify.prove.solvers import Answer, limit_z3

LIMIT = 10.0  # seconds of CPU time for the first model; a wish that takes longer than the next is dropped
_WISH_LIMIT = 1.0
_DECLARED = re.compile(r"^\(declare-fun \|(.*)\| \(\) \(_ BitVec (\d+)\)\)$", re.MULTILINE)


def simplest_model(facts: Facts, goal: Formula, wishes: Sequence[Formula]) -> dict[str, int] | None:
    """Return the variables' values in a model of ``facts`` in which ``goal`` is false; None if none is found.

    :param wishes: optional constraints; each is kept if it is consistent with those kept before.
    """
    import z3

    granted = [f"wish {number}" for number in range(len(wishes))]
    # Each wish has a variable that says whether it holds, so every model shows it.
    chosen = tuple(("wish", (var(n, 1) == 1) == wish) for n, wish in zip(granted, wishes, strict=True))
    text = script((*facts, *chosen), goal)
    context = z3.Context()
    solver = z3.SimpleSolver(ctx=context)
    limit_z3(solver, LIMIT)
    solver.add(z3.parse_smt2_string(text.replace("(check-sat)", ""), ctx=context))
    if str(solver.check()) != Answer.SAT:
        return None
    model = solver.model()
    limit_z3(solver, _WISH_LIMIT)
    todo = [[z3.BitVec(name, 1, context) for name in granted]]
    while todo:
        group = todo.pop()
        true = [wish == 1 for wish in group]
        if all(model[wish] is not None and model[wish].as_long() for wish in group):
            solver.add(*true)
            continue
        solver.push()
        solver.add(*true)
        if str(solver.check()) == Answer.SAT:
            model = solver.model()
            continue
        solver.pop()
        if len(group) > 1:
            # Most wishes are consistent with each other: halves are tried before single ones.
            half = len(group) // 2
            todo += [group[half:], group[:half]]
    # Most of a model is variables that z3 introduced; only those that the text declares are read.
    found = {name: model[z3.BitVec(name, int(width), context)] for name, width in _DECLARED.findall(text)}
    return {name: value.as_long() for name, value in found.items() if value is not None}
