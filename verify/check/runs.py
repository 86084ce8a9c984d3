"""Checks a finished run again from its texts alone: find, then check.

The record and the texts are all that is used; neither angr nor the code under proof.
So this shows that each recorded obligation is valid and that the verdicts follow from
them by the specs. No file of the run can show that these are all the obligations of the target's
bytes. A seal shows that this user's tool wrote them. Without a seal only a new run shows it.
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

import kexec_verify
from kexec_verify.check.certify import SOLVER, Status, solver_version
from kexec_verify.check.claims import absent, apply_dependencies, claim_of, outcome, unwaivable
from kexec_verify.check.model import SCHEMA, Check, ClaimRecord, TextRecord
from kexec_verify.check.text import Job, check_text, require_independence
from kexec_verify.errors import UsageError
from kexec_verify.files import JSON_LIMIT, read_file
from kexec_verify.prove.solvers import TIME_LIMIT, Answer, bitwuzla_version, z3_version
from kexec_verify.report.model import Run
from kexec_verify.report.read import decode_run
from kexec_verify.report.seal import is_sealed
from kexec_verify.verdict import Verdict
from kexec_verify.waivers import Waiver

BUDGET = 3600.0  # seconds; the largest kernels take some 60


@dataclass(frozen=True)
class Options:
    """How to check.

    :param jobs: number of processes.
    :param limit: seconds of CPU time for one query; the same as in the run that made it.
    :param budget: seconds of wall-clock time. A query that is not begun by then is undecided.
    :param third: use cvc5, too.
    :param certificates: have a SAT solver prove each obligation.
    :param waivers: that may have been used, in addition to those of specs/waivers.toml.
    """

    jobs: int = 1
    limit: float = TIME_LIMIT
    budget: float = BUDGET
    third: bool = False
    certificates: bool = False
    waivers: tuple[Waiver, ...] = ()


def check_run(
    directory: Path,
    options: Options = Options(),
    progress: Callable[[str], None] = lambda _: None,
) -> Check:
    """Check the run in ``directory``.

    :raises UsageError: if it holds no run, or cvc5 or certificates are requested and unavailable.
    :raises TargetError: if a text is missing or changed.
    :raises InternalError: if solvers contradict each other.
    """
    started = time.monotonic()
    path = directory / "run.json"
    data, run = _read(path)
    if options.certificates and not solver_version():
        raise UsageError(f"expected {SOLVER} for --certify, found none: apt-get install {SOLVER}")
    if options.third and importlib.util.find_spec("cvc5") is None:
        raise UsageError("expected the package cvc5 to be installed, found none: pip install cvc5")
    texts = _check_texts(_jobs(run, directory, options), options.jobs, progress)
    records = {record.text: record for record in texts}
    claims = apply_dependencies([claim_of(record, records) for record in run.properties], run)
    counted, uncertified = _certified(run, records) if options.certificates else (0, {})
    versions = {"z3": z3_version(), "bitwuzla": bitwuzla_version()}
    if options.certificates:
        versions["sat"] = solver_version()
    faults = _faults(run, texts, claims, options.waivers)
    sealed = is_sealed(data, directory)
    unsettled, status = outcome(run, claims, faults, sealed, uncertified)
    gave_up = _gave_up(texts)
    if gave_up:
        unsettled += gave_up
        status = status or Verdict.UNKNOWN.exit_status
    return Check(
        schema=SCHEMA,
        tool=f"kexec-verify {kexec_verify.__version__}",
        run_sha256=hashlib.sha256(data).hexdigest(),
        seconds=round(time.monotonic() - started, 3),
        versions=versions,
        obligations=sum(len(record.obligations) for record in run.properties),
        texts=texts,
        claims=claims,
        certified=counted,
        uncertified=uncertified,
        faults=faults,
        sealed=sealed,
        absent=absent(run),
        unsettled=unsettled,
        exit_status=status,
    )


def _read(path: Path) -> tuple[bytes, Run]:
    """Return the bytes of a run.json, and the run in them.

    :raises UsageError: if it is none.
    """
    try:
        data = read_file(path, JSON_LIMIT)
    except OSError as error:
        raise UsageError(
            f"{path}: expected a run.json, found: {error.strerror}", "verify run TARGET"
        ) from error
    return data, decode_run(data, str(path))


def _jobs(run: Run, directory: Path, options: Options) -> list[Job]:
    """Return one job for each text; hypotheses are checked for one instance of each kind that is not idle."""
    found: dict[tuple[str, str, tuple[str, ...]], Job] = {}
    deadline = time.time() + options.budget  # of the system's clock, which processes share
    for record in run.properties:
        for obligation in record.obligations:
            key = (obligation.text, obligation.sha256, tuple(obligation.hypotheses))
            before = found.get(key)
            proved = obligation.verdict is Verdict.PROVED or (before and before.claimed is Verdict.PROVED)
            found[key] = Job(
                directory,
                *key,
                claimed=Verdict.PROVED if proved else obligation.verdict,
                live=not obligation.idle or bool(before and before.live),
                limit=options.limit,
                deadline=deadline,
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


def _certified(run: Run, texts: dict[str, TextRecord]) -> tuple[int, dict[str, int]]:
    """Return the number of obligations with a certificate, and those without by reason."""
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


def _gave_up(texts: Sequence[TextRecord]) -> list[str]:
    """Return a sentence for each text that is claimed to be proved and is undecided now."""
    return [
        f"{record.text}: claimed {record.claimed}, and {_why_open(record)}"
        for record in texts
        if not record.holds and _is_open(record)
    ]


def _why_open(record: TextRecord) -> str:
    if not record.answers:
        return "the time for the whole check was over before it was begun"
    open_ = [answer.solver for answer in record.answers if answer.answer == Answer.UNKNOWN]
    return f"{' and '.join(open_)} gave up on it"


def _is_open(record: TextRecord) -> bool:
    return all(answer.answer != Answer.SAT for answer in record.answers)


def _faults(
    run: Run, texts: Sequence[TextRecord], claims: Sequence[ClaimRecord], waivers: Sequence[Waiver]
) -> list[str]:
    """Return each claim of the record that the check does not confirm."""
    faults = [] if run.complete else ["the run is not complete"]
    if not run.properties:
        faults.append("the run has no property")
    faults += unwaivable(run, waivers)
    for record in texts:
        if not record.holds and not _is_open(record):
            said = ", ".join(f"{answer.solver} {answer.answer}" for answer in record.answers)
            faults.append(f"{record.text}: claimed {record.claimed}, found {said}")
        if record.certificate is not None and record.certificate.status == Status.REJECTED:
            faults.append(f"{record.text}: claimed {record.claimed}, but {record.certificate.reason}")
    is_open = bool(_gave_up(texts))
    for claim in claims:
        if is_open and claim.recomputed is Verdict.UNKNOWN:
            continue  # as open as the texts that it follows from
        if claim.claimed is Verdict.PROVED and claim.recomputed is not Verdict.PROVED:
            faults.append(f"{claim.id}: claimed {claim.claimed}, found {claim.recomputed}: {claim.reason}")
    return faults
