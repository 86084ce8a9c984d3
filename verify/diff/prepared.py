"""What machine_kexec_post_load of one kernel prepares and that of the other, as a run shows, does not."""

from __future__ import annotations

from pathlib import Path

from kexec_verify.diff.model import Query
from kexec_verify.diff.side import Side
from kexec_verify.prove.discharge import vacuous
from kexec_verify.refute.functions.record import CallCounterexample
from kexec_verify.refute.functions.search import refute
from kexec_verify.target.source import source_line
from kexec_verify.verdict import Verdict

PREPARED = ("pl-kern-reloc", "pl-copied", "pl-tables")
"""Obligations that say which value a field of struct kimage, or the control page, has for the same kimage."""


def refuted_preparation(old: Side, new: Side) -> list[Query]:
    """Return a refuted query for each obligation that is proved of one kernel and broken by the other's run.

    Both kernels then leave different values for the same kimage, so they do not enter the routine alike.

    :raises InternalError: if a run differs from the path that it is to take.
    """
    found = []
    for side, other in ((old, new), (new, old)):
        for name in PREPARED:
            shown = _shown(side, name) if _is_proved(other, name) else None
            if shown is not None:
                line = (
                    source_line(Path(side.kernel.source), shown.at) if side.kernel.format == "elf" else None
                )
                source = f" ({line})" if line is not None else ""
                sentence = f"{side.label}: {shown.effect}{source}; {other.label} is proved to do it"
                found.append(Query("diff-prepared", sentence, Verdict.REFUTED, dict(shown.inputs)))
    return found


def _is_proved(side: Side, name: str) -> bool:
    mine = [result for result in side.results if result.obligation.name == name]
    proved = all(result.verdict is Verdict.PROVED for result in mine)
    return bool(mine) and proved and not vacuous(mine)


def _shown(side: Side, name: str) -> CallCounterexample | None:
    """Return a confirmed run of post_load on which an obligation called ``name`` does not hold."""
    for result in side.results:
        if result.obligation.name == name and result.verdict is not Verdict.PROVED and side.post_load:
            shown = refute(side.post_load, result, name)
            if shown is not None:
                return shown
    return None
