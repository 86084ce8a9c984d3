"""Tries mutants: a concrete run that shows the fault, else a proof that there is none.

A mutant that Unicorn shows to misbehave on some list must not be PROVED: that is an
internal fault of the verifier, and it is asked of a share of the refuted ones too.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from specs.properties import RELOCATION
from verify.arm64.lift import Code
from verify.errors import InternalError, LimitError, UnsupportedError
from verify.kexec.form import Form
from verify.mutate.binary import Mutant
from verify.mutate.model import MutantRecord
from verify.prove.discharge import Discharger
from verify.verdict import Verdict, join

SEARCH_SECONDS = 20.0
SEARCH_LISTS = 60


@dataclass(frozen=True)
class Job:
    """One mutant to try, with the form of the routine it comes from.

    :param ask_prover: ask for a proof even if a run shows the fault.
    """

    mutant: Mutant
    form: Form
    ask_prover: bool


def attempt(job: Job) -> MutantRecord:
    """What comes of one mutant.

    :raises InternalError: if a mutant is PROVED that a concrete run shows to be broken.
    """
    started = time.perf_counter()
    mutant = job.mutant
    effect, refused = _search(mutant.code, job.form)
    verdict: Verdict | None = None
    if effect is None or job.ask_prover:
        verdict = _prove(mutant.code, job.form)
    if effect is not None:
        if verdict is Verdict.PROVED:
            where = mutant.code.where(mutant.at)
            raise InternalError(f"{mutant.edit} at {where} is PROVED, but: {effect}")
        outcome, why = "refuted", effect
    elif verdict is Verdict.PROVED:
        outcome, why = "equivalent", "every property is proved of it"
    elif verdict is Verdict.UNSUPPORTED:
        outcome, why = "unsupported", refused or "the proof meets something without a model"
    else:
        outcome, why = "survivor", "neither a run that shows a fault nor a proof was found"
    return MutantRecord(
        mutant.kind,
        mutant.at,
        mutant.code.where(mutant.at),
        mutant.edit,
        outcome,
        why,
        str(verdict or ""),
        round(time.perf_counter() - started, 3),
    )


def _search(code: Code, form: Form) -> tuple[str | None, str]:
    """A bad effect that some list shows, or None and what stood in the way of running it."""
    from verify.refute.search import search

    try:
        found = search(code, form, None, SEARCH_SECONDS, most=SEARCH_LISTS)
    except (UnsupportedError, LimitError) as error:
        return None, str(error)
    return (next(iter(found.values())).effect, "") if found else (None, "")


def _prove(code: Code, form: Form) -> Verdict:
    """The prover's verdict, without a search for counterexamples."""
    from verify.theorems import prove

    outcome = prove(code, RELOCATION, form.page_size, form.layout, discharger=_discharger(), search_seconds=0)
    return join(finding.verdict for finding in outcome.findings)


@functools.cache
def _discharger() -> Discharger:
    """One for all mutants of a process: what a mutant leaves alone is asked once."""
    return Discharger()


def run(jobs: Sequence[Job], workers: int, done: Callable[[MutantRecord], None]) -> list[MutantRecord]:
    """Tries every job in ``workers`` processes; the records in the order of the jobs."""
    records = []
    for record in _results(jobs, workers):
        done(record)
        records.append(record)
    return records


def _results(jobs: Sequence[Job], workers: int) -> Iterator[MutantRecord]:
    if workers <= 1:
        yield from map(attempt, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(attempt, jobs)
