"""A counterexample in the page, whatever its kind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from verify.html import anchors
from verify.html.blocks import holds
from verify.html.list_drawing import list_drawing
from verify.html.memory_map import memory_map
from verify.html.status import Status, property_status
from verify.html.tree import property_anchor
from verify.report.model import PropertyRecord, Run

_HEX = re.compile(r"0x[0-9a-f]{5,16}")


@dataclass(frozen=True)
class Step:
    """One executed instruction: where, its text, registers that it changed (name and value)."""

    anchor: str
    where: str
    text: str
    changed: list[tuple[str, str]]


@dataclass(frozen=True)
class Refutation:
    """What the page shows of one counterexample.

    :param setting: facts in words; ``given``: named inputs; ``registers``: at the bad effect.
    :param first: number of the first shown step among all that ran.
    :param other: fields of a kind that the page does not know, as text.
    """

    record: PropertyRecord
    status: Status
    anchor: str
    property_anchor: str
    effect: str
    expected: str
    found: str
    where: str
    where_anchor: str
    obligation: str = ""
    function: str = ""
    setting: list[str] = field(default_factory=list)
    given: dict[str, str] = field(default_factory=dict)
    given_name: str = "inputs"
    drawing: Markup | None = None
    map: Markup | None = None
    steps: list[Step] = field(default_factory=list)
    first: int = 1
    registers: dict[str, str] = field(default_factory=dict)
    other: dict[str, str] = field(default_factory=dict)


def refutations(run: Run) -> list[Refutation]:
    """Every counterexample of ``run``, those that no waiver covers first."""
    found = [_view(record, record.counterexample, run) for record in run.properties if record.counterexample]
    return sorted(found, key=lambda view: view.record.waived)


def refutation_anchor(name: str) -> str:
    """The place of a property's counterexample in the page."""
    return anchors.anchor("x", name)


def _view(record: PropertyRecord, shown: Mapping[str, Any], run: Run) -> Refutation:
    address = shown.get("at")
    common: dict[str, Any] = {
        "record": record,
        "status": property_status(record),
        "anchor": refutation_anchor(record.id),
        "property_anchor": property_anchor(record.id),
        "effect": str(shown.get("effect", record.reason)),
        "expected": str(shown.get("expected", "")),
        "found": str(shown.get("found", "")),
        "where": str(shown.get("where") or _where(run, address)),
        "where_anchor": _anchor(run, address),
    }
    match shown.get("kind", "list"):
        case "list":
            return Refutation(**common, **_list(shown, common["effect"], run))
        case "call":
            return Refutation(**common, **_call(shown, run))
    known = {"kind", "property", "at", "where", "effect", "expected", "found"}
    other = {key: str(value) for key, value in shown.items() if key not in known}
    return Refutation(**common, other=other)


def _list(shown: Mapping[str, Any], effect: str, run: Run) -> dict[str, Any]:
    scenario = shown.get("scenario", {})
    page_size = int(scenario.get("page_size") or run.function.page_size or 4096)
    shift = int(scenario.get("phys_offset", 0))
    pages = shown.get("pages", ())
    bad = _bad_address(effect, [int(page.get("seen", 0)) for page in pages], page_size)
    words, path = shown.get("list", ()), shown.get("path", ())
    lines = 4 << int(scenario.get("dminline", 4))
    setting = [
        f"{len(words)} words, "
        + (
            "well-formed"
            if scenario.get("well_formed")
            else "outside W1 to W7, but the list machine is defined on it"
        ),
        f"pages of {page_size} bytes, cache lines of {lines} bytes",
    ]
    if scenario.get("el2_vectors"):
        setting.append(f"EL2 {'takes' if scenario.get('hvc') == 'taken' else 'refuses'} the HVC")
    if shown.get("end"):
        setting.append(f"the whole run ends with {shown['end']}")
    kimage_at = int(scenario.get("kimage_at", 0))
    return {
        "setting": setting,
        "given": {name: f"{value:#x}" for name, value in shown.get("kimage", {}).items()},
        "given_name": f"struct kimage at {kimage_at:#x}" if kimage_at else "arguments",
        "drawing": list_drawing(words, page_size, bad, shift),
        "map": memory_map(pages, page_size, bad),
        "steps": [_step(step, run) for step in path],
        "first": int(shown.get("instructions", len(path))) - len(path) + 1,
        "registers": {
            name: f"{value:#x}"
            for name, value in {**shown.get("registers", {}), **shown.get("system", {})}.items()
        },
    }


def _call(shown: Mapping[str, Any], run: Run) -> dict[str, Any]:
    return {
        "obligation": str(shown.get("obligation", "")),
        "function": str(shown.get("function", "")),
        "given": {str(name): _hex(value) for name, value in shown.get("inputs", {}).items()},
        "steps": [_step(step, run) for step in shown.get("steps", ())],
    }


def _step(step: Mapping[str, Any], run: Run) -> Step:
    address = step.get("address")
    return Step(
        _anchor(run, address),
        str(step.get("where") or _where(run, address)),
        str(step.get("text", "")),
        [(str(name), _hex(value)) for name, value in step.get("changed", {}).items()],
    )


def _hex(value: object) -> str:
    return f"{value:#x}" if isinstance(value, int) else str(value)


def _where(run: Run, address: object) -> str:
    """``address`` as symbol+offset/size, if a recorded function holds it."""
    if not isinstance(address, int):
        return ""
    for function in run.functions:
        if holds(function, address):
            return f"{function.name}+{address - function.address:#x}/{function.size:#x}"
    return f"{address:#x}"


def _anchor(run: Run, address: object) -> str:
    """The line of the listing at ``address``; empty if there is none."""
    known = isinstance(address, int) and any(
        instruction.address == address for function in run.functions for instruction in function.instructions
    )
    return anchors.at(int(str(address))) if known else ""


def _bad_address(effect: str, pages: list[int], page_size: int) -> int | None:
    """The first address in the sentence on the bad effect that lies in one of the pages."""
    for number in (int(text, 16) for text in _HEX.findall(effect)):
        if any(page <= number < page + page_size for page in pages):
            return number
    return None
