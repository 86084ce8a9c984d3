"""Tries mutants: a concrete run that shows the fault, else a proof that there is none.

A mutant that Unicorn shows to misbehave on some list must not be PROVED: that is an
internal fault of the verifier, and it is asked of a share of the refuted ones too.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context

from specs.properties import RELOCATION
from verify.arm64.lift import Code
from verify.errors import InternalError, UnsupportedError
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
    reason = ""
    if effect is None or job.ask_prover:
        verdict, reason = _prove(mutant.code, job.form)
    if effect is not None:
        if verdict is Verdict.PROVED:
            where = mutant.code.where(mutant.at)
            raise InternalError(f"{mutant.edit} at {where} is PROVED, but: {effect}")
        outcome, why = "refuted", effect
    elif verdict is Verdict.PROVED:
        outcome, why = "equivalent", "every property is proved of it"
    elif verdict is Verdict.UNSUPPORTED and refused:
        outcome, why = "unsupported", refused
    else:
        outcome, why = "survivor", f"no run shows a fault, and no proof was found: {reason}"
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
    from verify.refute.search import first_fault

    try:
        fault = first_fault(code, form, SEARCH_SECONDS, SEARCH_LISTS)
    except UnsupportedError as error:
        return None, str(error)
    return (fault.effect if fault is not None else None), ""


def _prove(code: Code, form: Form) -> tuple[Verdict, str]:
    """The prover's verdict and its reason, without a search for counterexamples."""
    from verify.theorems import prove

    outcome = prove(code, RELOCATION, form.page_size, form.layout, discharger=_discharger(), search_seconds=0)
    verdict = join(finding.verdict for finding in outcome.findings)
    return verdict, next((f.reason for f in outcome.findings if f.verdict is verdict), "")


@functools.cache
def _discharger() -> Discharger:
    """One for all mutants of a process: what a mutant leaves alone is asked once."""
    return Discharger()


type Outcome = tuple[Job, MutantRecord]
"""A job, and what came of it."""


def attempts(jobs: Sequence[Job], workers: int) -> Iterator[Outcome]:
    """Tries every job in ``workers`` processes; the outcomes as they come, in any order."""
    if workers <= 1:
        for job in jobs:
            yield job, attempt(job)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(attempt, job): job for job in jobs}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
