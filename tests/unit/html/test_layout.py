"""Drawing a graph: every node once, none over another, every edge kept."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kexec_verify.html.layout import arrange, back_edges

DIAMOND = {0: [1, 2], 1: [3], 2: [3], 3: []}
NESTED = {0: [1], 1: [2, 4], 2: [2, 3], 3: [1], 4: []}


@pytest.mark.parametrize(
    "then, expected",
    [
        (DIAMOND, set()),
        (NESTED, {(2, 2), (3, 1)}),
        ({0: [1], 1: [0], 2: [1]}, {(1, 0)}),
    ],
)
def test_back_edges_are_those_that_close_a_cycle(then, expected):
    assert back_edges(0, then) == expected


def test_edges_go_down_and_loops_up():
    layout = arrange(0, NESTED, dict.fromkeys(NESTED, (80.0, 30.0)))
    for (tail, head), points in layout.edges.items():
        assert layout.nodes[tail][1] < layout.nodes[head][1]
        assert points[-1] == layout.nodes[head]
    assert set(layout.back) == {(2, 2), (3, 1)}
    assert layout.back[3, 1] < layout.back[2, 2] < min(x for x, _ in layout.nodes.values())


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 14).flatmap(
        lambda n: st.lists(st.lists(st.integers(0, n - 1), max_size=3), min_size=n, max_size=n)
    )
)
def test_no_node_lies_on_another_and_all_lie_inside(targets):
    then = {node: list(dict.fromkeys(ends)) for node, ends in enumerate(targets)}
    sizes = {node: (60.0 + 17 * (node % 5), 24.0 + 14 * (node % 3)) for node in then}
    layout = arrange(0, then, sizes)
    assert set(layout.nodes) == set(then)
    assert set(layout.edges) | set(layout.back) == {(a, b) for a in then for b in then[a]}
    boxes = [
        (x - sizes[node][0] / 2, y, x + sizes[node][0] / 2, y + sizes[node][1])
        for node, (x, y) in layout.nodes.items()
    ]
    for left, top, right, bottom in boxes:
        assert min(left, top) >= 0 and right <= layout.width and bottom <= layout.height
    for a, b in itertools.combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_edge_of_a_low_node_does_not_run_behind_a_tall_neighbour():
    then = {0: [1, 2], 1: [3], 2: [3, 4], 3: [], 4: []}
    sizes = {0: (60.0, 20.0), 1: (60.0, 200.0), 2: (60.0, 20.0), 3: (60.0, 20.0), 4: (60.0, 20.0)}
    layout = arrange(0, then, sizes)
    bottom = layout.nodes[1][1] + 200
    for head in (3, 4):
        first, second = layout.edges[2, head][:2]
        assert first[0] == second[0] and second[1] >= bottom
