"""Where to cut a function's cycles: a loop has one cutpoint, and so has a nest that one address cuts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import networkx
from kexec_verify.arm64.lift import SIZE, Code, control_flow, loops
from kexec_verify.errors import UnsupportedError


@dataclass(frozen=True)
class Cut:
    """An address that every cycle of one part of a function passes.

    :param at: address of the cutpoint.
    :param shared: several loops with heads of their own pass it. What is read in an iteration of one of
        them may then be read before the cutpoint and used behind it.
    """

    at: int
    shared: bool = False


def cuts(code: Code, wanted: Callable[[int], bool] = lambda at: True) -> list[Cut]:
    """Return where to cut the loops of a function, in the order in which control comes to them.

    A part of the function whose cycles have several heads is cut at one address that all of them pass,
    a head if one is such. Where there is none, each head is a cutpoint.

    :param wanted: whether a loop that has this address in it is to be cut.
    :raises UnsupportedError: for a cycle that nothing cuts.
    """
    graph = control_flow(code)
    found: list[Cut] = []
    for part in networkx.strongly_connected_components(graph):
        cyclic = len(part) > 1 or any(graph.has_edge(at, at) for at in part)
        if cyclic and any(wanted(at) for at in part):
            found += _of_part(code, graph.subgraph(part))
    return _in_order(code, graph, found)


def _of_part(code: Code, part: networkx.DiGraph) -> list[Cut]:
    """Return the cutpoints of one strongly connected part of the control flow."""
    try:
        heads = [loop.head for loop in loops(code) if loop.head in part]
    except UnsupportedError:
        heads = []
    if len(heads) == 1:
        return [Cut(heads[0])]
    for at in [*heads, *sorted(part)]:
        rest = part.copy()
        rest.remove_node(at)
        if networkx.is_directed_acyclic_graph(rest):
            return [Cut(at, shared=True)]
    if not heads:
        raise UnsupportedError(f"loop without a single head in {code.name}", min(part))
    return [Cut(head) for head in heads]


def _in_order(code: Code, graph: networkx.DiGraph, found: list[Cut]) -> list[Cut]:
    """Return the cutpoints so that control comes to an earlier one before a later one."""
    order = order_of(code, graph)
    return sorted(found, key=lambda cut: order[cut.at])


def order_of(code: Code, graph: networkx.DiGraph) -> dict[int, int]:
    """Return a number for each address: control that goes to a lower one has come round in a cycle.

    A callee that is run in place returns behind its call.
    """
    whole = graph.copy()
    for at in graph:
        target = code.at(at).call_target
        if target is not None and code.enters(target):
            inside = {target, *networkx.descendants(graph, target)}
            returns = [end for end in inside if "RETURN" in code.at(end).opcodes]
            whole.add_edges_from((end, at + SIZE) for end in returns)
    parts = networkx.condensation(whole)
    numbers = {part: number for number, part in enumerate(networkx.lexicographical_topological_sort(parts))}
    return {at: numbers[part] for at, part in parts.graph["mapping"].items()}
