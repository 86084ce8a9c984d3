"""SMT-LIB text to CNF: the clauses are satisfiable exactly if the text's assertions are.

Each operator becomes the textbook circuit on single bits; applications of functions
become fresh bits with functional consistency for every pair (Ackermann). Nothing is
simplified except constants and equal gates, so that little has to be trusted. The
evaluator of `kexec_verify.cosim` and the solvers are what this module is tested against.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kexec_verify.check.gates import FALSE, TRUE, Bits, Gates
from kexec_verify.errors import LimitError, UnsupportedError
from kexec_verify.prove.read import Node, Script, read

CLAUSE_LIMIT = 2_000_000


@dataclass(frozen=True)
class Cnf:
    """Clauses over variables 1 to ``variables``."""

    variables: int
    clauses: tuple[tuple[int, ...], ...]

    def dimacs(self) -> str:
        """Return the DIMACS text that SAT solvers read."""
        lines = [f"p cnf {self.variables} {len(self.clauses)}"]
        lines += [" ".join(map(str, clause)) + " 0" for clause in self.clauses]
        return "\n".join(lines) + "\n"


def bit_blast(text: str, limit: int = CLAUSE_LIMIT) -> Cnf:
    """Return the clauses of the script ``text``.

    :raises UnsupportedError: if the text is not wholly understood.
    :raises LimitError: if there are more than ``limit`` clauses.
    """
    script = read(text)
    blaster = _Blaster(script, limit)
    needed: set[int] = set()
    todo = list(script.assertions)
    while todo:
        index = todo.pop()
        if index not in needed:
            needed.add(index)
            todo.extend(script.nodes[index].args)
    blaster.blast(sorted(needed))
    for index in script.assertions:
        blaster.gates.assert_(blaster.bits[index][0])
    return Cnf(blaster.gates.variables, tuple(blaster.gates.clauses))


class _Blaster:
    """The bits of each node of a script."""

    def __init__(self, script: Script, limit: int) -> None:
        self.script = script
        self.limit = limit
        self.gates = Gates()
        self.bits: dict[int, Bits] = {}
        self._applications: dict[str, list[tuple[tuple[Bits, ...], Bits]]] = {}

    def blast(self, indices: Iterable[int]) -> None:
        for index in indices:
            node = self.script.nodes[index]
            args = [self.bits[arg] for arg in node.args]
            self.bits[index] = self._node(node, args)
            if len(self.gates.clauses) > self.limit:
                raise LimitError(f"too large: more than {self.limit} clauses")

    def _node(self, node: Node, args: list[Bits]) -> Bits:
        gates, width = self.gates, node.width
        match node.op:
            case "const":
                return tuple(TRUE if node.value >> i & 1 else FALSE for i in range(width or 1))
            case "var":
                return gates.inputs(width or 1)
            case "apply":
                return self._apply(node.name, tuple(args), width or 1)
            case "not" | "bvnot":
                return _inverted(args[0])
            case "and" | "or" | "bvand" | "bvor" | "bvxor":
                gate = {"d": gates.and_, "r": gates.or_}[node.op[-1]] if node.op != "bvxor" else gates.xor
                result = args[0]
                for arg in args[1:]:
                    result = tuple(gate(x, y) for x, y in zip(result, arg, strict=True))
                return result
            case "ite":
                return gates.choose(args[0][0], args[1], args[2])
            case "=":
                return (gates.equal(args[0], args[1]),)
            case "distinct":
                return (-gates.equal(args[0], args[1]),)
            case "extract":
                high, low = node.indices
                return args[0][low : high + 1]
            case "zero_extend":
                return args[0] + (FALSE,) * node.indices[0]
            case "sign_extend":
                return args[0] + (args[0][-1],) * node.indices[0]
            case "concat":
                return tuple(bit for arg in reversed(args) for bit in arg)
        if node.op in ("bvult", "bvule", "bvugt", "bvuge", "bvslt", "bvsle", "bvsgt", "bvsge"):
            return (self._compare(node.op, *args),)
        return self._arithmetic(node, args)

    def _compare(self, op: str, a: Bits, b: Bits) -> int:
        if op[2] == "s":  # flipping the sign bits turns the signed order into the unsigned one
            a, b = (*a[:-1], -a[-1]), (*b[:-1], -b[-1])
        if op[3:] in ("gt", "le"):
            a, b = b, a
        less = self.gates.less(a, b)
        return less if op[3:] in ("lt", "gt") else -less

    def _arithmetic(self, node: Node, args: list[Bits]) -> Bits:
        gates, width = self.gates, node.width
        zero = (FALSE,) * width
        match node.op:
            case "bvadd":
                return gates.add(args[0], args[1])[0]
            case "bvsub":
                return gates.add(args[0], _inverted(args[1]), TRUE)[0]
            case "bvneg":
                return gates.add(zero, _inverted(args[0]), TRUE)[0]
            case "bvmul":
                total = zero
                for place, bit in enumerate(args[1]):
                    shifted = (FALSE,) * place + args[0][: width - place]
                    total = gates.add(total, tuple(gates.and_(bit, x) for x in shifted))[0]
                return total
            case "bvshl":
                return tuple(reversed(self._shift(tuple(reversed(args[0])), args[1], FALSE)))
            case "bvlshr":
                return self._shift(args[0], args[1], FALSE)
            case "bvashr":
                return self._shift(args[0], args[1], args[0][-1])
            case "bvudiv":
                return self._divide(*args)[0]
            case "bvurem":
                return self._divide(*args)[1]
        raise UnsupportedError(f"SMT-LIB operator {node.op}")

    def _shift(self, value: Bits, amount: Bits, fill: int) -> Bits:
        """Return ``value`` shifted towards its least significant bit."""
        gates, width = self.gates, len(value)
        beyond = FALSE
        for place, bit in enumerate(amount):
            step = 1 << place
            if step < width:
                shifted = value[step:] + (fill,) * step
                value = gates.choose(bit, shifted, value)
            else:
                beyond = gates.or_(beyond, bit)
        return gates.choose(beyond, (fill,) * width, value)

    def _divide(self, dividend: Bits, divisor: Bits) -> tuple[Bits, Bits]:
        """Return quotient and remainder, digit by digit; by zero all ones and the dividend (SMT-LIB)."""
        gates, width = self.gates, len(dividend)
        wide = (*divisor, FALSE)
        rest: Bits = (FALSE,) * (width + 1)
        quotient: list[int] = []
        for bit in reversed(dividend):
            rest = (bit, *rest[:-1])
            fits = -gates.less(rest, wide)
            rest = gates.choose(fits, gates.add(rest, _inverted(wide), TRUE)[0], rest)
            quotient.append(fits)
        # A divisor of zero always fits and takes nothing away: all ones, and the dividend is left.
        return tuple(reversed(quotient)), rest[:width]

    def _apply(self, name: str, arguments: tuple[Bits, ...], width: int) -> Bits:
        gates = self.gates
        value = gates.inputs(width)
        earlier = self._applications.setdefault(name, [])
        for others, other in earlier:
            same = gates.all_([gates.equal(a, b) for a, b in zip(arguments, others, strict=True)])
            if same == FALSE:
                continue
            for x, y in zip(value, other, strict=True):
                gates.clauses += [(-same, -x, y), (-same, x, -y)]
        earlier.append((arguments, value))
        return value


def _inverted(bits: Bits) -> Bits:
    return tuple(-bit for bit in bits)
