"""Draw a function's control-flow graph as SVG."""

from __future__ import annotations

from collections.abc import Sequence

from kexec_verify.html import anchors
from kexec_verify.html.blocks import Block, unmodelled
from kexec_verify.html.layout import arrange, back_edges
from kexec_verify.html.svg import arrow, drawing, tag, text
from kexec_verify.report.model import FunctionRecord
from markupsafe import Markup

LINE = 14.0
_CHARACTER = 6.7  # pixels of a monospace character at 11 px
_PADDING = 9.0
_SHOWN_EVENTS = 5
_LONGEST = 30  # characters of a line in a block

STATES = {
    "proved": "proved",
    "open": "on a path that is not proved",
    "refuted": "bad effect of a counterexample",
    "unmodelled": "has no model",
    "unreached": "no path from the entry leads here",
    "uncovered": "on no path of a proof",
}


def graph(function: FunctionRecord, blocks: Sequence[Block]) -> Markup:
    """Return the graph of ``function``; a block links to its instructions in the listing."""
    if not blocks:
        return Markup("")
    known = {block.start for block in blocks}
    then = {block.start: [t for t in block.then if t in known] for block in blocks}
    lines = {block.start: _lines(function, block) for block in blocks}
    sizes = {start: _size(shown) for start, shown in lines.items()}
    layout = arrange(blocks[0].start, then, sizes)
    back = back_edges(blocks[0].start, then)
    drawn = [
        arrow(points, class_="edge", marker_end="url(#arrow)")
        for edge, points in layout.edges.items()
        if edge not in back
    ]
    for (tail, head), lane in layout.back.items():
        drawn.append(_back(layout.nodes[tail], sizes[tail], layout.nodes[head], sizes[head], lane))
    drawn += [
        _node(block, lines[block.start], layout.nodes[block.start], sizes[block.start]) for block in blocks
    ]
    label = f"control-flow graph of {function.name}: {len(blocks)} blocks, {len(back)} back edges"
    return drawing(layout.width, layout.height, label, *drawn, class_="graph")


def _lines(function: FunctionRecord, block: Block) -> list[str]:
    """Return the text in a block: its address, its part in the proof, its system events."""
    first, last = block.start - function.address, block.last - function.address
    title = f"+{first:#x}" if first == last else f"+{first:#x} … +{last:#x}"
    shown = [title]
    if block.loop:
        shown.append("loop head, cutpoint")
    elif block.cutpoint:
        shown.append("entry" if block.start == function.address else "cutpoint")
    marked = sorted((i for i in block.instructions if i.event), key=lambda i: not unmodelled(i))
    events = [instruction.text for instruction in marked]
    shown += [_short(event) for event in events[:_SHOWN_EVENTS]]
    if len(events) > _SHOWN_EVENTS:
        shown.append(f"… and {len(events) - _SHOWN_EVENTS} more")
    if not block.then and block.instructions[-1].text not in events:
        shown.append(_short(block.instructions[-1].text))
    return shown


def _short(line: str) -> str:
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _size(lines: Sequence[str]) -> tuple[float, float]:
    return max(len(line) for line in lines) * _CHARACTER + 2 * _PADDING, len(lines) * LINE + 10


def _node(block: Block, lines: Sequence[str], at: tuple[float, float], size: tuple[float, float]) -> Markup:
    x, y = at[0] - size[0] / 2, at[1]
    kind = f"block {block.state}" + (" cutpoint" if block.cutpoint else "")
    boxes = [tag("rect", x=x, y=y, width=size[0], height=size[1], rx=4)]
    if block.cutpoint:
        boxes.append(
            tag("rect", x=x + 3, y=y + 3, width=size[0] - 6, height=size[1] - 6, rx=2, class_="inner")
        )
    words = [
        text(x + _PADDING, y + LINE * (row + 1) + 1, line, class_="name" if row == 0 else None)
        for row, line in enumerate(lines)
    ]
    title = tag("title", f"{lines[0]}: {STATES[block.state]}, {len(block.instructions)} instructions")
    return tag(
        "a",
        tag("g", title, *boxes, *words, class_=kind, data_block=f"{block.start:x}"),
        href=f"#{anchors.at(block.start)}",
    )


def _back(
    tail: tuple[float, float],
    tail_size: tuple[float, float],
    head: tuple[float, float],
    head_size: tuple[float, float],
    lane: float,
) -> Markup:
    """Draw a back edge: out of the tail's side, up its lane, into the head's side."""
    from_x, from_y = tail[0] - tail_size[0] / 2, tail[1] + tail_size[1] - 8
    to_x, to_y = head[0] - head_size[0] / 2, head[1] + 9
    path = f"M{from_x:.1f} {from_y:.1f}H{lane:.1f}V{to_y:.1f}H{to_x:.1f}"
    return tag("path", d=path, class_="edge back", marker_end="url(#arrow)")
