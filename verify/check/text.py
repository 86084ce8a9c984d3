"""Checks one text again: its hash, every solver, its hypotheses, a certificate. No angr."""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from kexec_verify.check.certify import certify
from kexec_verify.check.commands import require_printed
from kexec_verify.check.model import AnswerRecord, CertificateRecord, TextRecord
from kexec_verify.errors import InternalError, TargetError, VerifyError
from kexec_verify.files import TEXT_LIMIT, read_file
from kexec_verify.prove.solvers import Answer, Reply, ask_bitwuzla, ask_z3
from kexec_verify.verdict import Verdict

CONTRADICTIONS = "contradictions"
_GOAL = ":named |goal|"
_LABEL = re.compile(r"^\(assert \(! \S+ :named \|\d+:(.*)\|\)\)$", re.MULTILINE)


@dataclass(frozen=True)
class Job:
    """One text to check.

    :param directory: of the run.
    :param claimed: the best verdict that an obligation with this text has.
    :param live: an obligation with this text depends on its hypotheses: check whether they can hold.
    :param limit: seconds of CPU time for one query.
    :param deadline: seconds since the epoch; a check that is not begun by then is left undecided.
    :param hypotheses: their labels, as the record has them.
    """

    directory: Path
    text: str
    sha256: str
    hypotheses: tuple[str, ...]
    claimed: Verdict
    live: bool
    limit: float
    deadline: float
    third: bool
    certificate: bool


def require_independence() -> None:
    """Check that nothing that made the texts takes part in checking them.

    :raises InternalError: if angr is loaded.
    """
    if "angr" in sys.modules:
        raise InternalError("angr is loaded in the process that checks its results")


def ask_cvc5(text: str, limit: float) -> Reply:
    """Return cvc5's answer to ``text``, if the wheel ``cvc5`` is installed.

    :raises InternalError: if the text is not SMT-LIB that cvc5 reads.
    """
    cvc5 = importlib.import_module("cvc5")  # not a dependency: users who want a third solver install it

    started = time.perf_counter()
    manager = cvc5.TermManager()
    solver = cvc5.Solver(manager)
    # cvc5 counts wall-clock time. The limit is generous, and can only leave the query undecided.
    solver.setOption("tlimit-per", str(int(limit * 60_000)))
    parser = cvc5.InputParser(solver)
    try:
        parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, text.replace("(check-sat)", ""), "obligation")
        while not (command := parser.nextCommand()).isNull():
            command.invoke(solver, parser.getSymbolManager())
        result = solver.checkSat()
    except RuntimeError as error:
        raise InternalError(f"cvc5 cannot read an obligation: {error}") from error
    answer = Answer.UNSAT if result.isUnsat() else Answer.SAT if result.isSat() else Answer.UNKNOWN
    return Reply("cvc5", answer, time.perf_counter() - started)


def read_text(directory: Path, name: str, sha256: str) -> str:
    """Return the text called ``name`` of the run in ``directory``.

    :raises TargetError: if it is missing, outside of the run, or not the one that was recorded.
    """
    path = directory / name
    if "\0" in name or not path.resolve().is_relative_to(directory.resolve()):
        raise TargetError(f"{name}: expected a file in {directory}")
    try:
        data = read_file(path, TEXT_LIMIT)
    except OSError as error:
        raise TargetError(f"{path}: expected an obligation's text, found: {error.strerror}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise TargetError(f"{path}: expected SHA-256 {sha256}, found {found}")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise TargetError(f"{path}: expected an obligation's text in UTF-8, found: {error}") from error
    require_printed(text, name)
    return text


def check_text(job: Job) -> TextRecord:
    """Check one text.

    :raises TargetError: if it is not the one that was recorded.
    :raises InternalError: if solvers contradict each other; the text is kept.
    """
    text = read_text(job.directory, job.text, job.sha256)
    labels = tuple(_LABEL.findall(text))
    if labels != job.hypotheses:
        raise TargetError(f"{job.text}: expected the hypotheses {list(job.hypotheses)}, found {list(labels)}")
    if time.time() > job.deadline:
        holds = job.claimed is not Verdict.PROVED
        return TextRecord(job.text, job.sha256, job.claimed, [], None, holds)
    solvers: list[Callable[[str, float], Reply]] = [ask_z3, ask_bitwuzla]
    if job.third:
        solvers.append(ask_cvc5)
    try:
        replies = [ask(text, job.limit) for ask in solvers]
    except InternalError as error:  # the file is anybody's: what no solver reads is not ours
        raise TargetError(f"{job.text}: expected an obligation's text, found: {error}") from error
    answers = {reply.answer for reply in replies}
    if {Answer.SAT, Answer.UNSAT} <= answers:
        kept = _keep(job, text, replies)
        said = ", ".join(f"{reply.solver} {reply.answer}" for reply in replies)
        raise InternalError(f"solvers contradict each other ({said}): {kept}")
    # Whether the hypotheses can hold matters for a proof alone.
    live = _live(text, job.limit) if job.live and Answer.UNKNOWN not in answers else None
    certificate: CertificateRecord | None = None
    if job.certificate and job.claimed is Verdict.PROVED:
        found = asdict(certify(text))
        certificate = CertificateRecord(
            **{f"{key}_sha256" if key in ("cnf", "proof") else key: value for key, value in found.items()}
        )
    return TextRecord(
        text=job.text,
        sha256=job.sha256,
        claimed=job.claimed,
        answers=[AnswerRecord(reply.solver, reply.answer, round(reply.seconds, 4)) for reply in replies],
        live=live,
        holds=job.claimed is not Verdict.PROVED or answers == {Answer.UNSAT},
        certificate=certificate,
    )


def _live(text: str, limit: float) -> bool:
    """Return whether the text's hypotheses can hold: without its goal it is satisfiable."""
    lines = [line for line in text.splitlines() if _GOAL not in line]
    if len(lines) != len(text.splitlines()) - 1:
        raise VerifyError("expected an obligation's text with one goal")
    return ask_bitwuzla("\n".join(lines) + "\n", limit).answer is Answer.SAT


def _keep(job: Job, text: str, replies: list[Reply]) -> Path:
    """Write the query to each solver, with its answer, next to the run."""
    folder = job.directory / CONTRADICTIONS
    folder.mkdir(exist_ok=True)
    for reply in replies:
        path = folder / f"{job.sha256[:24]}.{reply.solver}.smt2"
        path.write_text(f"; {reply.solver}: {reply.answer}\n{text}")
    return folder
