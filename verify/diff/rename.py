"""Rename terms so that only inputs that both kernels share have the same name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kexec_verify.logic import Formula, Function, Term, application, normal, replace, var
from kexec_verify.obligation import Facts

GIVEN = frozenset(
    {"ctr_el0", *(f"{name}@machine_kexec" for name in ("x0", "sctlr_el1", "tcr_el1", "daif", "currentel"))}
)
"""What both kernels are entered with: the kimage's address, and the CPU's state that entry depends on."""


class Renamer:
    """Renames the variables and functions of terms.

    :param prefix: put before the name of every variable and function that is not given to both.
    :param instead: terms to put for variables, by the variable's name; they are not renamed themselves.
    :param functions: what to put for a function's value at an argument, by the function's name.
    """

    def __init__(
        self,
        prefix: str = "",
        instead: Mapping[str, Term] | None = None,
        functions: Mapping[str, Callable[[Term], Term]] | None = None,
    ):
        self.prefix = prefix
        self.functions = dict(functions or {})
        self.instead = dict(instead or {})
        self._made: dict[str, Term] = {}

    def term(self, term: Term | Formula) -> Term | Formula:
        """Return ``term`` over the renamed variables."""
        # In two steps: what is put in for one variable may hold another of the same name.
        marks: list[tuple[Term, Term]] = []
        for leaf in leaves(term):
            new = self._leaf(leaf)
            if new is not leaf:
                mark = var(f"renamed {leaf.args[0]}", leaf.length)
                term = replace(term, leaf, mark, shallow=True)
                marks.append((mark, new))
        for mark, new in marks:
            term = replace(term, mark, new, shallow=True)
        return term

    def facts(self, facts: Facts) -> Facts:
        """Return the facts renamed, their labels with the prefix."""
        return tuple((f"{self.prefix}{label}", self.term(fact)) for label, fact in facts)

    def _leaf(self, leaf: Term) -> Term:
        name = str(leaf.args[0])
        if name not in self._made:
            self._made[name] = self._new(leaf, name)
        return self._made[name]

    def _new(self, leaf: Term, name: str) -> Term:
        if name in self.instead:
            return self.instead[name]
        applied = application(leaf)
        if applied is not None:
            arguments = [self.term(argument) for argument in applied.arguments]
            if applied.function in self.functions:
                return self.functions[applied.function](normal(arguments[0]))
            return Function(f"{self.prefix}{applied.function}", leaf.length)(*arguments)
        if not self.prefix or name in GIVEN:
            return leaf
        return var(f"{self.prefix}{name}", leaf.length)


def leaves(term: Term | Formula) -> list[Term]:
    """Return each variable in ``term`` once, including those that represent a function's value."""
    found: dict[str, Term] = {}
    seen: set[int] = set()
    todo = [term]
    while todo:
        top = todo.pop()
        key = top.hash()
        if key in seen:
            continue
        seen.add(key)
        if top.op == "BVS":
            found[str(top.args[0])] = top
        todo.extend(arg for arg in top.args if hasattr(arg, "op"))
    return [found[name] for name in sorted(found)]
