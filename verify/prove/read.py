"""Reads the SMT-LIB texts of obligations back, without the engine that wrote them.

The reader knows the commands and operators of QF_UFBV that `kexec_verify.prove.smtlib` prints
and refuses all others (SMT-LIB 2.6, theory FixedSizeBitVectors). A text that it does
not fully understand gets no certificate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kexec_verify.errors import UnsupportedError

BOOL = 0
"""The width that represents the sort Bool."""

_TOKEN = re.compile(r";[^\n]*|\s+|([|(])|(\))|([^\s()|;]+)")
_INDEXED = frozenset({"extract", "zero_extend", "sign_extend"})
_SAME_WIDTH = frozenset(
    {"bvadd", "bvsub", "bvmul", "bvand", "bvor", "bvxor", "bvshl", "bvashr", "bvlshr", "bvudiv"}
    | {"bvurem", "bvneg", "bvnot"}
)
_COMPARISONS = frozenset(
    {"=", "distinct", "bvult", "bvule", "bvugt", "bvuge", "bvslt", "bvsle", "bvsgt", "bvsge"}
)
_CONNECTIVES = frozenset({"and", "or", "not"})
_UNARY = frozenset({"bvneg", "bvnot", "not"})

type Expression = str | list["Expression"]


@dataclass(frozen=True)
class Node:
    """One term: an operator over earlier nodes.

    :param op: an SMT-LIB symbol, or ``const``, ``var`` and ``apply``.
    :param args: indices of nodes.
    :param width: bits, or BOOL.
    :param value: of a constant.
    :param name: of a variable or a function.
    :param indices: of an ``extract`` or an extension.
    """

    op: str
    args: tuple[int, ...]
    width: int
    value: int = 0
    name: str = ""
    indices: tuple[int, ...] = ()


@dataclass
class Script:
    """A text as nodes, each after its arguments, and the nodes that are asserted."""

    nodes: list[Node] = field(default_factory=list)
    assertions: list[int] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    functions: dict[str, tuple[tuple[int, ...], int]] = field(default_factory=dict)
    _known: dict[Node, int] = field(default_factory=dict, repr=False)

    def add(self, node: Node) -> int:
        """Return the index of ``node``; add it if it is new."""
        index = self._known.get(node)
        if index is None:
            index = self._known[node] = len(self.nodes)
            self.nodes.append(node)
        return index

    def term(self, expression: Expression) -> int:
        """Return the index of the node that ``expression`` denotes.

        :raises UnsupportedError: for an unknown symbol or ill-sorted arguments.
        """
        if isinstance(expression, str):
            return self._atom(expression)
        head, *rest = expression
        if head == "_":
            return self._constant(rest)
        if head == "!":
            return self.term(rest[0])
        indices: tuple[int, ...] = ()
        if isinstance(head, list):
            if len(head) < 3 or head[0] != "_" or head[1] not in _INDEXED:
                raise UnsupportedError(f"SMT-LIB operator {head}")
            indices = tuple(_numeral(part) for part in head[2:])
            head = head[1]
        assert isinstance(head, str)
        args = tuple(self.term(part) for part in rest)
        return self.add(self._application(head, args, indices))

    def _atom(self, text: str) -> int:
        if text in self.names:
            return self.names[text]
        if text in ("true", "false"):
            return self.add(Node("const", (), BOOL, value=int(text == "true")))
        if text.startswith("#b"):
            return self.add(Node("const", (), len(text) - 2, value=int(text[2:], 2)))
        if text.startswith("#x"):
            return self.add(Node("const", (), 4 * (len(text) - 2), value=int(text[2:], 16)))
        raise UnsupportedError(f"SMT-LIB symbol {text}")

    def _constant(self, rest: Sequence[Expression]) -> int:
        match rest:
            case [str(text), width] if text.startswith("bv") and text[2:].isdigit():
                bits = _numeral(width)
                if bits > 0 and int(text[2:]) < 1 << bits:
                    return self.add(Node("const", (), bits, value=int(text[2:])))
        raise UnsupportedError(f"SMT-LIB constant {rest}")

    def _application(self, op: str, args: tuple[int, ...], indices: tuple[int, ...]) -> Node:
        widths = tuple(self.nodes[arg].width for arg in args)
        if op in self.functions:
            domain, width = self.functions[op]
            if widths == domain and not indices:
                return Node("apply", args, width, name=op)
        elif (op in _INDEXED) == bool(indices):
            width = _width(op, widths, indices)
            if width >= 0:
                return Node(op, args, width, indices=indices)
        raise UnsupportedError(f"SMT-LIB operator {op} on widths {widths}")


def _width(op: str, widths: tuple[int, ...], indices: tuple[int, ...]) -> int:
    """Return the bits of the result; -1 if the arguments do not fit the operator."""
    first = widths[0] if widths else -1
    match op, indices:
        case "extract", (high, low) if len(widths) == 1 and 0 <= low <= high < first:
            return high - low + 1
        case (("zero_extend" | "sign_extend"), (more,)) if len(widths) == 1 and first > 0:
            return first + more
        case "concat", () if len(widths) > 1 and min(widths) > 0:
            return sum(widths)
        case "ite", () if len(widths) == 3 and first == BOOL and widths[1] == widths[2]:
            return widths[1]
    if indices or len(widths) < 1 or any(width != first for width in widths):
        return -1
    arity_fits = (
        len(widths) == 1 if op in _UNARY else len(widths) == 2 or (len(widths) > 2 and op in ("and", "or"))
    )
    if op in _SAME_WIDTH and first > 0 and arity_fits:
        return first
    if op in _CONNECTIVES and first == BOOL and (arity_fits or op != "not"):
        return BOOL
    if op in _COMPARISONS and arity_fits and (first > 0 or op in ("=", "distinct")):
        return BOOL
    return -1


def _numeral(expression: Expression) -> int:
    if isinstance(expression, str) and expression.isdigit():
        return int(expression)
    raise UnsupportedError(f"SMT-LIB numeral {expression}")


def expressions(text: str) -> Iterator[Expression]:
    """Return the S-expressions of ``text``, in order.

    :raises UnsupportedError: if its parentheses or bars do not match.
    """
    stack: list[list[Expression]] = [[]]
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise UnsupportedError(f"SMT-LIB text at {text[at : at + 20]!r}")
        at = match.end()
        opening, closing, symbol = match.groups()
        if opening == "|":
            end = text.find("|", at)
            if end < 0:
                raise UnsupportedError("SMT-LIB text with an open quotation")
            stack[-1].append(f"|{text[at:end]}|")
            at = end + 1
        elif opening:
            stack.append([])
        elif closing:
            if len(stack) == 1:
                raise UnsupportedError("SMT-LIB text with an unmatched parenthesis")
            done = stack.pop()
            if len(stack) == 1:
                yield done
            else:
                stack[-1].append(done)
        elif symbol:
            if len(stack) == 1:
                raise UnsupportedError(f"SMT-LIB text with {symbol!r} outside of a command")
            stack[-1].append(symbol)
    if len(stack) > 1:
        raise UnsupportedError("SMT-LIB text with an open parenthesis")


def _sort(expression: Expression) -> int:
    match expression:
        case "Bool":
            return BOOL
        case ["_", "BitVec", width]:
            return _numeral(width)
    raise UnsupportedError(f"SMT-LIB sort {expression}")


def read(text: str) -> Script:
    """Return the script in ``text``: one check of all its assertions.

    :raises UnsupportedError: for anything that the printer of obligations does not write.
    """
    script = Script()
    checked = False
    for command in expressions(text):
        if checked:
            raise UnsupportedError("SMT-LIB text that goes on after its check")
        match command:
            case ["set-logic", "QF_UFBV"]:
                pass
            case ["declare-fun", str(name), list(domain), sort]:
                _fresh(script, name)
                if domain:
                    script.functions[name] = tuple(_sort(part) for part in domain), _sort(sort)
                else:
                    script.names[name] = script.add(Node("var", (), _sort(sort), name=name))
            case ["define-fun", str(name), [], sort, body]:
                _fresh(script, name)
                index = script.term(body)
                if script.nodes[index].width != _sort(sort):
                    raise UnsupportedError(f"SMT-LIB definition of {name}: its body has another sort")
                script.names[name] = index
            case ["assert", body]:
                index = script.term(body)
                if script.nodes[index].width != BOOL:
                    raise UnsupportedError("SMT-LIB assertion of no formula")
                script.assertions.append(index)
            case ["check-sat"]:
                checked = True
            case _:
                raise UnsupportedError(f"SMT-LIB command {command[0] if command else '()'}")
    if not checked:
        raise UnsupportedError("SMT-LIB text without (check-sat)")
    return script


def _fresh(script: Script, name: str) -> None:
    if name in script.names or name in script.functions:
        raise UnsupportedError(f"SMT-LIB text that declares {name} twice")
