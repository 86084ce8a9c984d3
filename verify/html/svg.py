"""Build SVG elements as safe text: everything that is put into one is escaped."""

from __future__ import annotations

import itertools

from kexec_verify.html.visible import visible
from markupsafe import Markup, escape


def tag(name: str, *children: Markup | str, **attributes: object) -> Markup:
    """Return one element; ``class_`` is written as ``class``, ``_`` in a name as ``-``."""
    shown = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _number(value))
        for key, value in attributes.items()
        if value is not None
    )
    return Markup("<{}{}>{}</{}>").format(
        Markup(name), shown, Markup("").join(map(_content, children)), Markup(name)
    )


def text(x: float, y: float, content: str, **attributes: object) -> Markup:
    """Return a line of text at a point."""
    return tag("text", content, x=x, y=y, **attributes)


def arrow(points: list[tuple[float, float]], **attributes: object) -> Markup:
    """Return a smooth line through ``points`` with a head at its end; pixels, y downwards."""
    steps = [f"M{_number(points[0][0])} {_number(points[0][1])}"]
    for (x, y), (to_x, to_y) in itertools.pairwise(points):
        middle = (y + to_y) / 2
        curve = (x, middle, to_x, middle, to_x, to_y)
        steps.append("C" + " ".join(str(_number(value)) for value in curve))
    return tag("path", d="".join(steps), **attributes)


def drawing(width: float, height: float, label: str, *children: Markup, class_: str = "") -> Markup:
    """Return a whole drawing of that size in pixels, labelled for screen readers; it shrinks to fit."""
    return tag(
        "svg",
        *children,
        class_=f"drawing {class_}".strip(),
        viewBox=f"0 0 {_number(width)} {_number(height)}",
        width=width,
        height=height,
        role="img",
        aria_label=label,
    )


def _content(child: Markup | str) -> Markup:
    return child if isinstance(child, Markup) else escape(visible(child))


def _number(value: object) -> object:
    """Return numbers in short form, text without hidden characters, everything else unchanged."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    if isinstance(value, float):
        return int(value) if value == int(value) else round(value, 1)
    return value
