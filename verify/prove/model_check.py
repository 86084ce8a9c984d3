"""Checks a model of a query by evaluating the query's text; no solver takes part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kexec_verify.errors import UnsupportedError
from kexec_verify.prove.evaluate import evaluate
from kexec_verify.prove.read import read


def is_model(text: str, model: Sequence[int], fixed: Mapping[str, int]) -> bool:
    """Return whether every assertion of ``text`` holds under a model.

    :param model: values of the variables and function applications, in the order in which the text
        declares and defines them (:func:`kexec_verify.prove.solvers.leaves`).
    :param fixed: values of variables that replace those of the model.
    """
    try:
        script = read(text)
    except UnsupportedError:
        return False
    leaves = [(index, node) for index, node in enumerate(script.nodes) if node.op in ("var", "apply")]
    if len(leaves) != len(model):
        return False
    given = [(*leaf, value) for leaf, value in zip(leaves, model, strict=True)]
    if any(not 0 <= value < 1 << node.width for _, node, value in given):
        return False
    values = {node.name: value for _, node, value in given if node.op == "var"} | dict(fixed)
    tables = {
        name: _Table([value for _, node, value in given if node.op == "apply" and node.name == name])
        for name in script.functions
    }
    # Every application is evaluated, in the text's order: its value is the next of its table.
    wanted = [*script.assertions, *(index for index, node, _ in given if node.op == "apply")]
    holds = evaluate(script, values, {name: table.call for name, table in tables.items()}, wanted)
    return all(holds[: len(script.assertions)]) and all(table.is_function for table in tables.values())


class _Table:
    """An uninterpreted function: its applications get the model's values, one after the other.

    :ivar is_function: whether equal arguments have had equal values.
    """

    def __init__(self, values: Sequence[int]):
        self._values = values
        self._known: dict[tuple[int, ...], int] = {}
        self._next = 0
        self.is_function = True

    @property
    def call(self) -> Callable[..., int]:
        def call(*arguments: int) -> int:
            value = self._values[self._next]
            self._next += 1
            if self._known.setdefault(arguments, value) != value:
                self.is_function = False
            return value

        return call
