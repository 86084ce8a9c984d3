"""Draw one run's page."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

import jinja2
from kexec_verify.html import anchors, charts, deferred, functions, history, refutation, tree
from kexec_verify.html.blocks import where
from kexec_verify.html.companion_files import CompanionFiles
from kexec_verify.html.functions import FunctionView
from kexec_verify.html.live import live_table
from kexec_verify.html.status import headline, property_status
from kexec_verify.html.visible import visible
from kexec_verify.report.explain import Explanation, explain
from kexec_verify.report.live_verdicts import with_live
from kexec_verify.report.model import PropertyRecord, Run
from kexec_verify.report.source_lines import Lines
from kexec_verify.report.status import short_waiver
from kexec_verify.report.times import costs
from kexec_verify.verdict import BLOCKED, Verdict
from markupsafe import Markup

_AT = re.compile(r"\bat (0x[0-9a-f]+)\b")


@functools.cache
def _environment() -> jinja2.Environment:
    loader = jinja2.PackageLoader("kexec_verify.html", "templates")
    made = jinja2.Environment(
        loader=loader,
        autoescape=True,  # names in a binary are hostile input
        finalize=lambda value: visible(value) if type(value) is str else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["duration"] = _duration
    made.filters["bytes"] = _bytes
    made.filters["when"] = _when
    made.filters["runs"] = anchors.runs
    made.globals["property_anchor"] = tree.property_anchor
    made.globals["assumption_anchor"] = _assumption_anchor
    made.globals["refutation_anchor"] = refutation.refutation_anchor
    made.globals["titles"] = tree.TITLES
    made.globals["status"] = property_status
    made.globals["short_waiver"] = short_waiver
    made.globals["entry_status"] = history.entry_status
    return made


def render(template: str, values: Mapping[str, Any]) -> str:
    """Return a page from a template; its style and script are inline, and nothing else may run or load."""
    source = _environment().loader
    assert source is not None
    script = source.get_source(_environment(), "page.js.j2")[0].strip()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _environment().get_template(template).render(script=script, script_hash=digest, **values)


def run_page(run: Run, near: CompanionFiles, path: str, lines: Lines | None = None) -> str:
    """Return the page of ``run`` as HTML.

    :param path: of its run.json, as a command on the page names it.
    :param lines: looks source lines up, where the run's file has them.
    """
    run = with_live(run, near.live)
    roots, theorems = tree.tree(run, near.certificates)
    entries = history.with_run(near.earlier, run)
    shown = [functions.function_view(function, run) for function in run.functions]
    places = _places(run, shown)
    count = sum(len(record.obligations) for record in run.properties)
    cost = costs(run)
    nodes = [*roots, *(node for theorem in theorems for node in theorem.nodes)]
    wait = count > deferred.MOST

    def label(name: str) -> tuple[str, str]:
        return _label(run, name), _assumption_anchor(name)

    values = {
        "wait": wait,
        "may_wait": deferred.may_wait if wait else lambda kind: False,
        "data": deferred.as_script(deferred.deferred(nodes, places, label)) if wait else "",
        "run": run,
        "path": path,
        "near": near,
        "live": live_table(run, near.live),
        "headline": headline(run),
        "roots": roots,
        "theorems": theorems,
        "proved": _composed_first(r for r in run.properties if r.verdict is Verdict.PROVED),
        "open": [r for r in _worst_first(run) if r.verdict is not Verdict.PROVED],
        "reasons": _reasons(run),
        "explained": {found.property: found for found in _explanations(run, lines)},
        "functions": shown,
        "refutations": refutation.refutations(run),
        "waived": [record for record in run.properties if record.waiver is not None],
        "places": places,
        "hypothesis": _hypothesis(run, places),
        "obligations": count,
        "stages": charts.bars(run.stages, "time per stage"),
        "costs": cost,
        "solver_seconds": sum(each.own for each in cost.values()),
        "property_times": charts.bars(
            {name: each.own for name, each in cost.items()}, "solver time per property"
        ),
        "trend": charts.trend(entries),
        "entries": entries,
    }
    return render("run.html.j2", values)


def _hypothesis(run: Run, places: Set[str]) -> Callable[[str], Markup]:
    """Return a function from a label to its markup; a page repeats a few labels thousands of times."""
    go = _environment().get_template("macros.html.j2").module.go  # type: ignore[attr-defined]

    @functools.cache
    def shown(label: str) -> Markup:
        return Markup(go(places, _assumption_anchor(label), _label(run, label)))

    return shown


def _label(run: Run, label: str) -> str:
    """Return a hypothesis's label, with its addresses as symbol+offset/size."""
    return _AT.sub(lambda at: f"at {where(run, int(at[1], 16))}", label)


def _assumption_anchor(name: str) -> str:
    return anchors.anchor("a", name)


def _places(run: Run, shown: Sequence[FunctionView]) -> set[str]:
    """Return the identifiers that a link may point to: a run of some properties may name others."""
    found = {tree.property_anchor(record.id) for record in run.properties}
    found |= {_assumption_anchor(assumption.id) for assumption in run.assumptions}
    for view in shown:
        found |= {line.anchor for line in view.lines}
        found |= {f"path-{segment.number}" for segment in view.segments}
    return found


def _worst_first(run: Run) -> list[PropertyRecord]:
    """Return the properties by verdict, waived ones last."""
    return sorted(run.properties, key=lambda record: (record.waived, -record.verdict.rank))


def _explanations(run: Run, lines: Lines | None) -> list[Explanation]:
    return [explain(run, record, lines) for record in run.properties if record.verdict is not Verdict.PROVED]


def _composed_first(records: Iterable[PropertyRecord]) -> list[PropertyRecord]:
    """Return the properties, composed ones before their parts."""
    return sorted(records, key=lambda record: -len(record.parts))


def _reasons(run: Run) -> list[tuple[str, list[PropertyRecord]]]:
    """Group the properties that are not proved by reason: one instruction without a model has many.

    A composed property's reason repeats that of its worst part, and is left out. So is a property that
    another one blocks.
    """
    found: dict[str, list[PropertyRecord]] = {}
    for record in _worst_first(run):
        if record.reason.startswith(BLOCKED) and found:
            continue
        named = [reason for reason in found if reason and record.reason.endswith(f": {reason}")]
        if record.verdict is not Verdict.PROVED and not (record.parts and named):
            found.setdefault(record.reason, []).append(record)
    return list(found.items())


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _when(date: str) -> str:
    """Return the date of a record, without the part that all of them share."""
    return date.replace("T", " ").removesuffix("+00:00")


def _bytes(count: int) -> str:
    return f"{count // 1024} KiB" if count and count % 1024 == 0 else f"{count} bytes"
