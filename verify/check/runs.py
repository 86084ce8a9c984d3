"""Checks a finished run again from its texts alone: find, then check.

The record and the texts are all that is used; neither angr nor the code under proof.
So this shows that each recorded obligation is valid and that the verdicts follow from
them, not that they are the right obligations: only a new run shows that.
"""

from __future__ import annotations

import hashlib
import importlib.util
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import verify
from specs.properties import PROPERTIES
from verify.check.certify import Status, solver_version
from verify.check.model import SCHEMA, Check, ClaimRecord, TextRecord
from verify.check.text import Job, check_text, require_independence
from verify.errors import UsageError
from verify.prove.solvers import TIME_LIMIT, bitwuzla_version, z3_version
from verify.report.model import ObligationRecord, PropertyRecord, Run
from verify.report.read import read_run
from verify.verdict import Verdict, join


@dataclass(frozen=True)
class Options:
    """How to check: processes, seconds for one question, whether to ask cvc5 and for certificates."""

    jobs: int = 1
    limit: float = 3 * TIME_LIMIT
    third: bool = False
    certificates: bool = False


def check_run(
    directory: Path,
    options: Options = Options(),
    progress: Callable[[str], None] = lambda _: None,
) -> Check:
    """Check the run in ``directory``.

    :raises UsageError: if it holds no run, or cvc5 is asked for and not installed.
    :raises TargetError: if a text is missing or changed.
    :raises InternalError: if solvers contradict each other.
    """
    started = time.monotonic()
    path = directory / "run.json"
    run = read_run(path)
    if options.third and importlib.util.find_spec("cvc5") is None:
        raise UsageError("expected the package cvc5 to be installed, found none: pip install cvc5")
    texts = _check_texts(_jobs(run, directory, options), options.jobs, progress)
    records = {record.text: record for record in texts}
    claims = [_claim(record, run, records) for record in run.properties]
    claims = _rest(claims, run)
    counted, uncertified = _certified(run, records) if options.certificates else (0, {})
    versions = {"z3": z3_version(), "bitwuzla": bitwuzla_version()}
    if options.certificates:
        versions["sat"] = solver_version() or "missing"
    return Check(
        schema=SCHEMA,
        tool=f"kexec-verify {verify.__version__}",
        run_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        seconds=round(time.monotonic() - started, 3),
        versions=versions,
        obligations=sum(len(record.obligations) for record in run.properties),
        texts=texts,
        claims=claims,
        certified=counted,
        uncertified=uncertified,
        faults=_faults(run, texts, claims),
    )


def _jobs(run: Run, directory: Path, options: Options) -> list[Job]:
    """One job a text; the hypotheses of one instance of each kind that is not idle are asked about."""
    found: dict[tuple[str, str], Job] = {}
    for record in run.properties:
        for obligation in record.obligations:
            key = (obligation.text, obligation.sha256)
            before = found.get(key)
            proved = obligation.verdict is Verdict.PROVED or (before and before.claimed is Verdict.PROVED)
            found[key] = Job(
                directory,
                *key,
                claimed=Verdict.PROVED if proved else obligation.verdict,
                live=not obligation.idle or bool(before and before.live),
                limit=options.limit,
                third=options.third,
                certificate=options.certificates,
            )
    return list(found.values())


def _check_texts(jobs: Sequence[Job], processes: int, progress: Callable[[str], None]) -> list[TextRecord]:
    if processes <= 1:
        return [check_text(job) for job in jobs]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=require_independence) as pool:
        try:
            records = []
            for record in pool.map(check_text, jobs):
                records.append(record)
                progress(f"{len(records)}/{len(jobs)} texts")
            return records
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _recheck(obligation: ObligationRecord, texts: dict[str, TextRecord]) -> Verdict:
    if obligation.verdict is Verdict.PROVED and not texts[obligation.text].holds:
        return Verdict.UNKNOWN
    return obligation.verdict


def _claim(record: PropertyRecord, run: Run, texts: dict[str, TextRecord]) -> ClaimRecord:
    """A property's verdict by its own obligations."""
    verdict = join(_recheck(obligation, texts) for obligation in record.obligations)
    reason = "" if verdict is Verdict.PROVED else "not every obligation is proved"
    if not record.obligations:
        reason = "it has no obligation"
    if verdict is Verdict.PROVED:
        live = {o.name for o in record.obligations if not o.idle and texts[o.text].live}
        dead = sorted({o.name for o in record.obligations} - live)
        if dead:
            verdict, reason = Verdict.VACUOUS, f"no instance of {dead[0]} has hypotheses that can hold"
    return ClaimRecord(record.id, record.verdict, verdict, reason)


def _rest(claims: list[ClaimRecord], run: Run) -> list[ClaimRecord]:
    """A property is not proved while one that it rests on is not, by the record or by the specs."""
    by_id = {claim.id: claim for claim in claims}
    grounds = {record.id: set(record.rests_on) for record in run.properties}
    for name in grounds:
        if name in PROPERTIES:
            grounds[name] |= set(PROPERTIES[name].rests_on)
    changed = True
    while changed:
        changed = False
        for claim in list(by_id.values()):
            if claim.recomputed is not Verdict.PROVED:
                continue
            for ground in sorted(grounds[claim.id]):
                if ground not in by_id or by_id[ground].recomputed is not Verdict.PROVED:
                    reason = f"it rests on {ground}, which is not proved"
                    by_id[claim.id] = ClaimRecord(claim.id, claim.claimed, Verdict.UNKNOWN, reason)
                    changed = True
                    break
    return list(by_id.values())


def _certified(run: Run, texts: dict[str, TextRecord]) -> tuple[int, dict[str, int]]:
    """Obligations with a certificate, and those without by reason."""
    counted, reasons = 0, dict[str, int]()
    for record in run.properties:
        for obligation in record.obligations:
            found = texts[obligation.text].certificate
            if found is not None and found.status == Status.CERTIFIED:
                counted += 1
                continue
            reason = found.reason if found else f"{obligation.verdict}: there is no proof to certify"
            reasons[reason] = reasons.get(reason, 0) + 1
    return counted, reasons


def _faults(run: Run, texts: Sequence[TextRecord], claims: Sequence[ClaimRecord]) -> list[str]:
    """Each thing that the record claims and the check does not find."""
    faults = [] if run.complete else ["the run is not complete"]
    for record in texts:
        if not record.holds:
            said = ", ".join(f"{answer.solver} {answer.answer}" for answer in record.answers)
            faults.append(f"{record.text}: claimed {record.claimed}, found {said}")
        if record.certificate is not None and record.certificate.status == Status.REJECTED:
            faults.append(f"{record.text}: claimed {record.claimed}, but {record.certificate.reason}")
    for claim in claims:
        if claim.claimed is Verdict.PROVED and claim.recomputed is not Verdict.PROVED:
            faults.append(f"{claim.id}: claimed {claim.claimed}, found {claim.recomputed}: {claim.reason}")
    return faults
