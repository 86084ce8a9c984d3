"""Prepare a counterexample of either kind for the page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kexec_verify.html import anchors
from kexec_verify.html.blocks import where
from kexec_verify.html.list_drawing import list_drawing
from kexec_verify.html.memory_map import memory_map
from kexec_verify.html.status import Status, property_status
from kexec_verify.html.tree import property_anchor
from kexec_verify.report.model import PropertyRecord, Run
from markupsafe import Markup

_LOST = re.compile(r"x[1-9]|x1[0-8]|x30")
_PAGE = 4096  # bytes that a function's run has memory in at a time
_FRAME, _TASK, _IMAGE = 1 << 13, 1 << 16, 1 << 28  # bytes
_HEX = re.compile(r"0x[0-9a-f]{5,16}")


@dataclass(frozen=True)
class Step:
    """One executed instruction: address, text, and the registers that it changed (name and value).

    :param lost: registers that a callee may change and that were given values of no meaning.
    """

    anchor: str
    where: str
    text: str
    changed: list[tuple[str, str]]
    lost: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Refutation:
    """What the page shows of one counterexample.

    :param choices: capabilities and static keys that are set on the machine.
    :param setting: facts in words; ``given``: named inputs; ``registers``: at the bad effect.
    :param first: number of the first shown step among all that ran.
    :param other: fields of a kind that the page does not know, as text.
    :param same: the view of another property that the same run breaks, shown before.
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
    choices: list[str] = field(default_factory=list)
    setting: list[str] = field(default_factory=list)
    given: dict[str, str] = field(default_factory=dict)
    given_name: str = "inputs"
    drawing: Markup | None = None
    map: Markup | None = None
    steps: list[Step] = field(default_factory=list)
    first: int = 1
    registers: dict[str, str] = field(default_factory=dict)
    other: dict[str, str] = field(default_factory=dict)
    same: Refutation | None = None


def refutations(run: Run) -> list[Refutation]:
    """Return every counterexample of ``run``, those without a waiver first."""
    shown = sorted((r for r in run.properties if r.counterexample), key=lambda record: record.waived)
    found: list[Refutation] = []
    for record in shown:
        assert record.counterexample is not None
        view = _view(record, record.counterexample, run)
        run_of = {**record.counterexample, "property": ""}
        same = next((v for v in found if {**(v.record.counterexample or {}), "property": ""} == run_of), None)
        found.append(replace(view, same=same))
    return found


def refutation_anchor(name: str) -> str:
    """Return the identifier of a property's counterexample in the page."""
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
        "where": str(shown.get("where") or where(run, address)),
        "where_anchor": _anchor(run, address),
        "choices": [str(name) for name in shown.get("choices", ())],
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
        "map": _touched(shown),
        "steps": [_step(step, run) for step in shown.get("steps", ())],
    }


def _step(step: Mapping[str, Any], run: Run) -> Step:
    address, text = step.get("address"), str(step.get("text", ""))
    changed = [(str(name), _hex(value)) for name, value in step.get("changed", {}).items()]
    calls = text.startswith(("bl ", "blr ", "hvc "))
    lost = [pair for pair in changed if calls and _LOST.fullmatch(pair[0])]
    return Step(
        _anchor(run, address),
        str(step.get("where") or where(run, address)),
        text,
        [pair for pair in changed if pair not in lost] if len(lost) > 1 else changed,
        lost if len(lost) > 1 else [],
    )


def _touched(shown: Mapping[str, Any]) -> Markup | None:
    """Return the pages that a function's run has memory in, named after the registers that point there."""
    given = shown.get("given", {})
    registers, pages = given.get("registers", {}), given.get("pages", ())
    if not pages:
        return None
    code = int(given.get("start", 0))
    kimage = any(str(name).startswith("kimage->") for name in shown.get("inputs", {}))

    def role(page: int) -> str:
        if kimage and 0 <= page - (registers.get("x0", 0) & -_PAGE) < _PAGE:
            return "struct kimage"
        if 0 < registers.get("sp", 0) - page <= _FRAME:
            return "stack frame"
        if 0 <= page - (registers.get("sp_el0", 0) & -_PAGE) < _TASK:
            return "current task"
        return "kernel image" if abs(page - code) < _IMAGE else "memory"

    known = [{"seen": page, "roles": [role(page)]} for page in pages]
    return memory_map(known, _PAGE, _bad_address(str(shown.get("effect", "")), list(pages), _PAGE))


def _hex(value: object) -> str:
    return f"{value:#x}" if isinstance(value, int) else str(value)


def _anchor(run: Run, address: object) -> str:
    """Return the identifier of the listing's line at ``address``; empty if there is none."""
    known = isinstance(address, int) and any(
        instruction.address == address for function in run.functions for instruction in function.instructions
    )
    return anchors.at(int(str(address))) if known else ""


def _bad_address(effect: str, pages: list[int], page_size: int) -> int | None:
    """Return the first address in the sentence on the bad effect that lies in one of the pages."""
    for number in (int(text, 16) for text in _HEX.findall(effect)):
        if any(page <= number < page + page_size for page in pages):
            return number
    return None
