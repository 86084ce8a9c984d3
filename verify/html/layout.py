"""Lay out a control-flow graph in layers: ranks downwards, few crossings, back edges in a gutter.

Pure geometry, in pixels with y downwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

ROW_GAP = 34.0
COLUMN_GAP = 26.0
LANE = 14.0
_BEND = 10.0  # width of the place that a long edge takes in a rank it passes
_SWEEPS = 12

type Point = tuple[float, float]
type Edge = tuple[int, int]


@dataclass
class Layout:
    """Positions in pixels: top middle of each node, points of each forward edge, lanes of back edges."""

    nodes: dict[int, Point] = field(default_factory=dict)
    edges: dict[Edge, list[Point]] = field(default_factory=dict)
    back: dict[Edge, float] = field(default_factory=dict)  # x of the lane
    width: float = 0.0
    height: float = 0.0


def back_edges(start: int, then: Mapping[int, Sequence[int]]) -> set[Edge]:
    """Return the edges that close a cycle in a depth-first walk from ``start``, then from the nodes it
    missed.
    """
    found: set[Edge] = set()
    seen: set[int] = set()
    for root in (start, *then):
        if root in seen:
            continue
        seen.add(root)
        active = {root}
        todo = [(root, iter(then[root]))]
        while todo:
            node, rest = todo[-1]
            for target in rest:
                if target in active:
                    found.add((node, target))
                elif target not in seen:
                    seen.add(target)
                    active.add(target)
                    todo.append((target, iter(then[target])))
                    break
            else:
                active.discard(node)
                todo.pop()
    return found


def arrange(start: int, then: Mapping[int, Sequence[int]], sizes: Mapping[int, Point]) -> Layout:
    """Place every node of ``then``.

    :param sizes: width and height of each node.
    """
    back = back_edges(start, then)
    rank = _ranks(then, back)
    rows, links, widths = _rows(then, back, rank, sizes)
    _order(rows, links)
    x = _columns(rows, links, widths)
    left = min(x[name] - widths[name] / 2 for row in rows for name in row)
    lanes = LANE * (len(back) + 1)
    layout = Layout()
    top = 12.0
    tops = []
    for row in rows:
        tops.append(top)
        top += max((sizes[name][1] for name in row if isinstance(name, int)), default=0.0) + ROW_GAP
    for level, row in enumerate(rows):
        for name in row:
            if isinstance(name, int):
                layout.nodes[name] = (x[name] - left + lanes, tops[level])
    for edge in ((a, b) for a in then for b in then[a] if (a, b) not in back):
        # Straight down past the tallest node of its rank first: no edge runs behind a neighbour.
        through: list[Point] = [(layout.nodes[edge[0]][0], tops[rank[edge[0]] + 1] - ROW_GAP)]
        for level in range(rank[edge[0]] + 1, rank[edge[1]]):
            at = x[(*edge, level)] - left + lanes
            through += [(at, tops[level]), (at, tops[level + 1] - ROW_GAP)]
        (from_x, from_y), target = layout.nodes[edge[0]], layout.nodes[edge[1]]
        layout.edges[edge] = [(from_x, from_y + sizes[edge[0]][1]), *through, target]
    # The shortest back edge nearest to the nodes, so that lanes nest like the loops.
    for index, edge in enumerate(sorted(back, key=lambda e: (rank[e[0]] - rank[e[1]], e))):
        layout.back[edge] = lanes - LANE * (index + 1)
    layout.width = max(x[name] + widths[name] / 2 for row in rows for name in row) - left + lanes + 12
    layout.height = top - ROW_GAP + 16
    return layout


def _ranks(then: Mapping[int, Sequence[int]], back: set[Edge]) -> dict[int, int]:
    """Return the length of the longest path to each node along forward edges."""
    waiting = {node: 0 for node in then}
    for node in then:
        for target in then[node]:
            if (node, target) not in back:
                waiting[target] += 1
    rank = {node: 0 for node in then}
    todo = [node for node, count in waiting.items() if not count]
    while todo:
        node = todo.pop()
        for target in then[node]:
            if (node, target) not in back:
                rank[target] = max(rank[target], rank[node] + 1)
                waiting[target] -= 1
                if not waiting[target]:
                    todo.append(target)
    return rank


type _Name = int | tuple[int, int, int]
type _Links = dict[_Name, list[_Name]]


def _rows(
    then: Mapping[int, Sequence[int]], back: set[Edge], rank: dict[int, int], sizes: Mapping[int, Point]
) -> tuple[list[list[_Name]], _Links, dict[_Name, float]]:
    """Return nodes by rank, with a place for each long edge in every rank that it passes; neighbours;
    widths.
    """
    rows: list[list[_Name]] = [[] for _ in range(max(rank.values()) + 1)]
    links: _Links = {node: [] for node in then}
    widths: dict[_Name, float] = {node: sizes[node][0] for node in then}
    for node in then:
        rows[rank[node]].append(node)
    for node in then:
        for target in then[node]:
            if (node, target) in back:
                continue
            previous: _Name = node
            for level in range(rank[node] + 1, rank[target]):
                bend = (node, target, level)
                rows[level].append(bend)
                widths[bend] = _BEND
                links[bend] = [previous]
                links[previous].append(bend)
                previous = bend
            links[previous].append(target)
            links[target].append(previous)
    return rows, links, widths


def _order(rows: list[list[_Name]], links: _Links) -> None:
    """Order each rank by its neighbours' positions (barycentre), downwards and upwards alternately."""
    place: dict[_Name, float] = {name: index for row in rows for index, name in enumerate(row)}
    for sweep in range(_SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            centre = {
                name: sum(place[n] for n in links[name]) / len(links[name]) if links[name] else place[name]
                for name in row
            }
            row.sort(key=lambda name: centre[name])
            for index, name in enumerate(row):
                place[name] = index - len(row) / 2


def _columns(rows: list[list[_Name]], links: _Links, widths: dict[_Name, float]) -> dict[_Name, float]:
    """Return the middle of each node: near its neighbours' mean, in order, never overlapping."""
    x: dict[_Name, float] = {}
    for row in rows:
        at = 0.0
        for name in row:
            x[name] = at + widths[name] / 2
            at += widths[name] + COLUMN_GAP
        for name in row:
            x[name] -= (at - COLUMN_GAP) / 2
    for sweep in range(_SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wish = {
                name: sum(x[n] for n in links[name]) / len(links[name]) if links[name] else x[name]
                for name in row
            }
            right = _spaced(row, wish, widths)
            left = {n: -v for n, v in _spaced(row[::-1], {n: -v for n, v in wish.items()}, widths).items()}
            x.update({name: (right[name] + left[name]) / 2 for name in row})
    return x


def _spaced(row: list[_Name], wish: dict[_Name, float], widths: dict[_Name, float]) -> dict[_Name, float]:
    """Return positions at or right of the wishes, with a gap between neighbours."""
    found: dict[_Name, float] = {}
    limit = float("-inf")
    for name in row:
        found[name] = max(wish[name], limit + widths[name] / 2)
        limit = found[name] + widths[name] / 2 + COLUMN_GAP
    return found
