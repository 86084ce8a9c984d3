"""Print formulas as SMT-LIB 2.6 text that any solver of QF_UFBV reads.

The text is canonical: names of function applications are numbered in the order in
which they appear, so equal queries have equal texts in every run.
"""

from __future__ import annotations

from collections.abc import Sequence

from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import Formula, Term, application, constant

_OPERATORS = {
    "__add__": "bvadd",
    "__sub__": "bvsub",
    "__mul__": "bvmul",
    "__and__": "bvand",
    "__or__": "bvor",
    "__xor__": "bvxor",
    "__lshift__": "bvshl",
    "__rshift__": "bvashr",
    "__floordiv__": "bvudiv",
    "__mod__": "bvurem",
    "__neg__": "bvneg",
    "__invert__": "bvnot",
    "LShR": "bvlshr",
    "Concat": "concat",
    "ULT": "bvult",
    "ULE": "bvule",
    "UGT": "bvugt",
    "UGE": "bvuge",
    "SLT": "bvslt",
    "SLE": "bvsle",
    "SGT": "bvsgt",
    "SGE": "bvsge",
    "__eq__": "=",
    "__ne__": "distinct",
    "And": "and",
    "Or": "or",
    "Not": "not",
    "If": "ite",
}
_CHAINED = frozenset({"__sub__", "__floordiv__", "__mod__"})  # left-associative, not n-ary in SMT-LIB
_NARY = frozenset({"__add__", "__mul__", "__and__", "__or__", "__xor__", "Concat"})


class Printer:
    """Prints terms as ``define-fun`` lines, each shared term once."""

    def __init__(self) -> None:
        self.declarations: list[str] = []
        self.definitions: list[str] = []
        self._names: dict[int, str] = {}
        self._functions: set[str] = set()

    def name(self, term: Term | Formula) -> str:
        """Return the text for ``term``: a constant, or a name that is defined already."""
        todo = [term]
        while todo:
            top = todo[-1]
            key = top.hash()
            if key in self._names:
                todo.pop()
                continue
            missing = [c for c in self._children(top) if c.hash() not in self._names]
            if missing:
                todo.extend(missing)
                continue
            todo.pop()
            self._names[key] = self._print(top)
        return self._names[term.hash()]

    def _children(self, term: Term | Formula) -> list[Term | Formula]:
        if term.op == "BVS":
            applied = application(term)
            return list(applied.arguments) if applied else []
        return [arg for arg in term.args if hasattr(arg, "op")]

    def _print(self, term: Term | Formula) -> str:
        op = term.op
        if op == "BVV":
            return f"(_ bv{constant(term)} {term.length})"
        if op == "BoolV":
            return "true" if term.is_true() else "false"
        if op == "BVS":
            return self._variable(term)
        args = [self._names[arg.hash()] for arg in term.args if hasattr(arg, "op")]
        match op:
            case "Extract":
                body = f"((_ extract {term.args[0]} {term.args[1]}) {args[0]})"
            case "ZeroExt":
                body = f"((_ zero_extend {term.args[0]}) {args[0]})"
            case "SignExt":
                body = f"((_ sign_extend {term.args[0]}) {args[0]})"
            case _ if op in _OPERATORS:
                body = self._apply(_OPERATORS[op], op, args)
            case _:
                raise UnsupportedError(f"claripy operation {op}")
        sort = f"(_ BitVec {term.length})" if hasattr(term, "length") else "Bool"
        name = f"t{len(self.definitions)}"
        self.definitions.append(f"(define-fun {name} () {sort} {body})")
        return name

    @staticmethod
    def _apply(symbol: str, op: str, args: list[str]) -> str:
        if op in _CHAINED or op in _NARY:
            body = args[0]
            for arg in args[1:]:
                body = f"({symbol} {body} {arg})"
            return body
        return f"({symbol} {' '.join(args)})"

    def _variable(self, term: Term) -> str:
        applied = application(term)
        sort = f"(_ BitVec {term.length})"
        if applied is None:
            name = f"|{term.args[0]}|"
            self.declarations.append(f"(declare-fun {name} () {sort})")
            return name
        if applied.function not in self._functions:
            self._functions.add(applied.function)
            domain = " ".join(f"(_ BitVec {a.length})" for a in applied.arguments)
            self.declarations.append(f"(declare-fun |{applied.function}| ({domain}) {sort})")
        name = f"t{len(self.definitions)}"
        arguments = " ".join(self._names[a.hash()] for a in applied.arguments)
        self.definitions.append(f"(define-fun {name} () {sort} (|{applied.function}| {arguments}))")
        return name


def script(hypotheses: Sequence[tuple[str, Formula]], goal: Formula, comment: Sequence[str] = ()) -> str:
    """Return the SMT-LIB script that is unsatisfiable exactly if the hypotheses imply the goal.

    :param hypotheses: a label (for the reader and for unsat cores) and a formula each.
    :raises UnsupportedError: for an operation that the logic QF_UFBV lacks.
    """
    printer = Printer()
    asserted = [(label, printer.name(formula)) for label, formula in hypotheses]
    target = printer.name(goal)
    lines = [f"; {line}" for line in comment]
    lines += ["(set-logic QF_UFBV)", *printer.declarations, *printer.definitions]
    for index, (label, name) in enumerate(asserted):
        lines.append(f"(assert (! {name} :named |{index}:{label}|))")
    lines += [f"(assert (! (not {target}) :named |goal|))", "(check-sat)"]
    return "\n".join(lines) + "\n"
