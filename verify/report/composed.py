"""Format a composed property as a tree: its parts, their dependencies, and where a path may end early."""

from __future__ import annotations

from collections.abc import Iterator

from kexec_verify.report.model import PropertyRecord, Run
from kexec_verify.report.status import WHOLE_PATH_TARGET, status

_INDENT = "    "


def tree(run: Run, record: PropertyRecord) -> Iterator[str]:
    """Yield the lines of the tree below ``record``: its parts by function, and what they depend on."""
    by_id = {other.id: other for other in run.properties}
    parts = [by_id[name] for name in record.parts if name in by_id]
    for function in dict.fromkeys(part.function for part in parts):
        yield f"{function or WHOLE_PATH_TARGET}"
        for part in parts:
            if part.function == function:
                proved = len(part.obligations)
                yield f"{_INDENT}{part.theorem}  {part.id:<24} {status(part)} ({proved} obligations)"
                grounds = [f"{name} {status(by_id[name])}" for name in part.rests_on if name in by_id]
                if grounds:
                    yield f"{_INDENT}      rests on {', '.join(grounds)}"
    yield "composed by"
    for obligation in record.obligations:
        yield f"{_INDENT}{obligation.verdict}  {obligation.sentence}"
    aside = [other for other in run.properties if other.waived]
    if aside:
        yield "not part of it"
        for other in aside:
            yield f"{_INDENT}{other.id} {status(other)}"
    assumed = [contract for contract in run.contracts if contract.how == "assumed"]
    if assumed:
        yield "relies on callees that are not proved"
        for contract in assumed:
            yield f"{_INDENT}{contract.name}: {contract.sentence}"
    if run.globals:
        yield "reads the globals"
        for known in run.globals:
            yield f"{_INDENT}{known.name} at {known.address:#x}, by {known.found_by}"
    if run.ends:
        yield "a path may end or warn at"
        for (where, kind), count in _ends(run).items():
            whole_paths = f", on {count} paths" if count > 1 else ""
            yield f"{_INDENT}{kind} at {where}{whole_paths}"
            for branch in next(end for end in run.ends if end.where == where).condition:
                yield f"{_INDENT}    {branch}"


def _ends(run: Run) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for end in run.ends:
        found[end.where, end.kind] = found.get((end.where, end.kind), 0) + 1
    return found
