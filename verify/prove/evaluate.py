"""Evaluate an SMT-LIB text on concrete values, by rules of its own.

A text is translated to straight-line Python once and run on many states. Neither claripy nor a solver is
involved, so a fault of the printer shows as well as one of the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kexec_verify.errors import UnsupportedError
from kexec_verify.prove.read import Node, Script

type Function = Callable[..., int]
type Evaluator = Callable[[Mapping[str, int], Mapping[str, Function]], tuple[int, ...]]
"""From values of variables and functions, by their names in the text, to values of terms.

Bit-vectors are unsigned, formulas are 0 or 1.
"""

_INFIX = {"bvadd": "+", "bvsub": "-", "bvmul": "*", "bvand": "&", "bvor": "|", "bvxor": "^"}
_COMPARE = {"bvult": "<", "bvule": "<=", "bvugt": ">", "bvuge": ">=", "=": "==", "distinct": "!="}
_SIGNED = {"bvslt": "<", "bvsle": "<=", "bvsgt": ">", "bvsge": ">="}


def compile_terms(script: Script, wanted: Sequence[int]) -> Evaluator:
    """Return a function that computes the values of the nodes ``wanted``, in that order.

    :raises UnsupportedError: for an operator without a rule.
    """
    needed: set[int] = set()
    todo = list(wanted)
    while todo:
        index = todo.pop()
        if index not in needed:
            needed.add(index)
            todo.extend(script.nodes[index].args)
    lines = ["def run(V, F):"]
    lines += [f" v{index} = {_rule(script, script.nodes[index])}" for index in sorted(needed)]
    lines.append(f" return ({''.join(f'v{index}, ' for index in wanted)})")
    scope: dict[str, Evaluator] = {}
    exec("\n".join(lines), {}, scope)
    return scope["run"]


def _rule(script: Script, node: Node) -> str:
    args = [f"v{arg}" for arg in node.args]
    widths = [script.nodes[arg].width for arg in node.args]
    mask = hex((1 << node.width) - 1)
    match node.op:
        case "const":
            return str(node.value)
        case "var":
            return f"V[{node.name!r}]"
        case "apply":
            return f"F[{node.name!r}]({', '.join(args)})"
        case op if op in _INFIX:
            return f"({args[0]} {_INFIX[op]} {args[1]}) & {mask}"
        case op if op in _COMPARE:
            return f"int({args[0]} {_COMPARE[op]} {args[1]})"
        case op if op in _SIGNED:
            # Flipping the sign bit turns the signed order into the unsigned one.
            flip = hex(1 << widths[0] - 1)
            return f"int(({args[0]} ^ {flip}) {_SIGNED[op]} ({args[1]} ^ {flip}))"
        case "bvnot":
            return f"{args[0]} ^ {mask}"
        case "bvneg":
            return f"-{args[0]} & {mask}"
        case "bvshl":
            return f"({args[0]} << {args[1]}) & {mask} if {args[1]} < {node.width} else 0"
        case "bvlshr":
            return f"{args[0]} >> {args[1]}"
        case "bvashr":
            return f"({_signed(args[0], node.width)} >> {args[1]}) & {mask}"
        case "bvudiv":
            return f"{args[0]} // {args[1]} if {args[1]} else {mask}"
        case "bvurem":
            return f"{args[0]} % {args[1]} if {args[1]} else {args[0]}"
        case "extract":
            return f"({args[0]} >> {node.indices[1]}) & {mask}"
        case "zero_extend":
            return args[0]
        case "sign_extend":
            return f"{_signed(args[0], widths[0])} & {mask}"
        case "concat":
            joined = args[0]
            for arg, width in zip(args[1:], widths[1:], strict=True):
                joined = f"(({joined}) << {width} | {arg})"
            return joined
        case "ite":
            return f"{args[1]} if {args[0]} else {args[2]}"
        case "not":
            return f"1 - {args[0]}"
        case "and":
            return " & ".join(args)
        case "or":
            return " | ".join(args)
    raise UnsupportedError(f"SMT-LIB operator {node.op}")


def _signed(arg: str, width: int) -> str:
    return f"({arg} - (({arg} >> {width - 1}) << {width}))"


def evaluate(
    script: Script, values: Mapping[str, int], functions: Mapping[str, Function], wanted: Sequence[int]
) -> tuple[int, ...]:
    """Return the values of the nodes ``wanted`` in one state."""
    return compile_terms(script, wanted)(values, functions)
