"""Witnesses: values with which a hypothesis holds, together with all others of its obligation."""

from __future__ import annotations

from collections.abc import Iterable

from kexec_verify.logic import FALSE, Formula, application, var
from kexec_verify.obligation import Facts
from kexec_verify.prove.smtlib import script
from kexec_verify.prove.solvers import model_z3


def witness(label: str, obligations: Iterable[Facts]) -> dict[str, str] | None:
    """Return values of the variables in the hypotheses called ``label``, from a model of all hypotheses.

    :param obligations: the hypotheses of each obligation that has one of that label.
    :returns: values by name, in hexadecimal; None if no obligation's hypotheses can hold.
    """
    for hypotheses in obligations:
        spoken = [formula for name, formula in hypotheses if name == label]
        shown = {f"value {i}": leaf for i, leaf in enumerate(_leaves(spoken))}
        probes: Facts = tuple((name, var(name, leaf.length) == leaf) for name, leaf in shown.items())
        values = model_z3(script((*hypotheses, *probes), FALSE), list(shown))
        if values is not None:
            return {_name(shown[name]): f"{value:#x}" for name, value in sorted(values.items())}
    return None


def _leaves(formulas: list[Formula]) -> list[Formula]:
    """Return the variables and function applications in ``formulas``, once each."""
    found = {}
    todo = list(formulas)
    while todo:
        term = todo.pop()
        if term.op == "BVS":
            found[term.args[0]] = term
        todo.extend(arg for arg in term.args if hasattr(arg, "op"))
    return [found[name] for name in sorted(found)]


def _name(leaf: Formula) -> str:
    applied = application(leaf)
    if applied is None:
        return str(leaf.args[0])
    arguments = ", ".join(str(argument).split(" ", 1)[1].rstrip(">") for argument in applied.arguments)
    return f"{applied.function}({arguments})"
