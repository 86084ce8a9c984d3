"""Try mutants: find a concrete run that shows the fault, or else a proof that there is none.

A mutant that Unicorn shows to misbehave on some list must not be PROVED: that would be an internal fault of
the verifier. The prover is run on a share of the refuted mutants to check this.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, NamedTuple

from kexec_verify.arm64.lift import Code
from kexec_verify.errors import InternalError, UnsupportedError
from kexec_verify.kexec.abi_variant import AbiVariant
from kexec_verify.mutate.binary import Mutant, sample, shares
from kexec_verify.mutate.model import MutantRecord
from kexec_verify.prove.discharge import Discharger
from kexec_verify.specs.properties import RELOCATION
from kexec_verify.verdict import Verdict, join

if TYPE_CHECKING:
    from kexec_verify.mutate.base import Base

SEARCH_SECONDS = 20.0  # of CPU time
SEARCH_LISTS = 60


@dataclass(frozen=True)
class Job:
    """One mutant to try, with the form of the routine it comes from.

    :param ask_prover: ask for a proof even if a run shows the fault.
    :param target: of a mutant of another function than the routine, the kernel that it is one of.
    """

    mutant: Mutant
    variant: AbiVariant
    ask_prover: bool
    target: str | None = None


def jobs_of(
    base: Base, target: str, possible: Mapping[str, int], most: int, seed: int, share: int
) -> list[Job]:
    """Return at most ``most`` mutants of the functions in ``possible``, in proportion to their numbers.

    :param target: what ``base`` was opened from.
    :param possible: how many mutants there are of each function.
    :param share: of every n-th a proof is asked even if a run shows its fault; 0 for of none.
    """
    found: list[Job] = []
    for subject in base.subjects():
        if subject.code.name not in possible:
            continue
        part = dict(zip(possible, shares(list(possible.values()), most), strict=True))
        of_kernel = target if subject.code.address != base.code.address else None
        for mutant in sample(subject.code, part[subject.code.name], seed, subject.addresses):
            asked = share > 0 and len(found) % share == 0
            found.append(Job(mutant, base.variant, asked, of_kernel))
    return found


def attempt(job: Job) -> MutantRecord:
    """Return the result for one mutant.

    :raises InternalError: if a mutant is PROVED that a concrete run shows to be broken.
    """
    started = time.perf_counter()
    mutant = job.mutant
    tried = _attempt_routine(job) if job.target is None else _attempt_other(job, job.target)
    outcome, why = _outcome(tried)
    if tried.effect and tried.verdict is Verdict.PROVED:
        where = mutant.code.where(mutant.at)
        raise InternalError(f"{mutant.edit} at {where} is PROVED, but: {tried.effect}")
    return MutantRecord(
        mutant.kind,
        mutant.at,
        mutant.code.where(mutant.at),
        mutant.edit,
        outcome,
        why,
        str(tried.verdict or ""),
        round(time.perf_counter() - started, 3),
        mutant.code.name,
    )


class _Tried(NamedTuple):
    """The results of a search for a run and of a proof.

    :param effect: what a run shows; empty if none does.
    :param verdict: None if no proof was asked for.
    :param reason: why it is not PROVED, or what differs all the same.
    :param refused: what has no model, so that the mutant is neither run nor proved.
    """

    effect: str
    verdict: Verdict | None
    reason: str
    refused: str


def _outcome(tried: _Tried) -> tuple[str, str]:
    if tried.effect:
        return "refuted", tried.effect
    if tried.verdict is Verdict.PROVED:
        return "equivalent", "every property is proved of it" + (tried.reason and f"; {tried.reason}")
    if tried.verdict is Verdict.UNSUPPORTED and tried.refused:
        return "unsupported", tried.refused
    return "survivor", f"no run shows a fault, and no proof was found: {tried.reason}"


def _attempt_routine(job: Job) -> _Tried:
    code = job.mutant.code
    effect, refused = _search(code, job.variant)
    if effect is not None and not job.ask_prover:
        return _Tried(effect, None, "", refused)
    verdict, reason = _prove(code, job.variant)
    return _Tried(effect or "", verdict, "" if verdict is Verdict.PROVED else reason, refused)


def _attempt_other(job: Job, target: str) -> _Tried:
    from kexec_verify.mutate.base import base_of
    from kexec_verify.mutate.kernel_mutants import try_mutant

    tried = try_mutant(base_of(target), job.mutant.code, job.ask_prover)
    return _Tried(tried.effect, tried.verdict, tried.reason, tried.reason)


def _search(code: Code, variant: AbiVariant) -> tuple[str | None, str]:
    """Return a bad effect that some list shows, or None and why the mutant could not be run."""
    from kexec_verify.refute.search import first_fault

    try:
        fault = first_fault(code, variant, SEARCH_SECONDS, SEARCH_LISTS)
    except UnsupportedError as error:
        return None, str(error)
    return (fault.effect if fault is not None else None), ""


def _prove(code: Code, variant: AbiVariant) -> tuple[Verdict, str]:
    """Return the prover's verdict and its reason, without a search for counterexamples."""
    from kexec_verify.theorems import prove

    outcome = prove(
        code, RELOCATION, variant.page_size, variant.layout, discharger=_discharger(), search_seconds=0
    )
    verdict = join(finding.verdict for finding in outcome.findings)
    return verdict, next((f.reason for f in outcome.findings if f.verdict is verdict), "")


@functools.cache
def _discharger() -> Discharger:
    """Return the process's only discharger: a query that a mutant does not change is sent once."""
    return Discharger()


type Outcome = tuple[Job, MutantRecord]
"""A job, and what came of it."""


def attempts(jobs: Sequence[Job], workers: int) -> Iterator[Outcome]:
    """Try every job in ``workers`` processes; yield the outcomes as they come, in any order."""
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
