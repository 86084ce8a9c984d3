"""Certificates: an obligation's text to clauses, a proof of their unsatisfiability, and its check.

What a certificate covers: from the clauses on, only the checker is trusted that is in
`kexec_verify.check.rup`, and neither z3, bitwuzla nor the SAT solver. It does not cover
that the clauses mean the same as the text. That depends on the reader and the bit-blaster
of this package, which simplify nothing and share no code with the solvers, and on the
printer that wrote the text.
"""

from __future__ import annotations

import enum
import hashlib
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from kexec_verify.check.bitblast import CLAUSE_LIMIT, Cnf, bit_blast
from kexec_verify.check.rup import ProofError, check_proof
from kexec_verify.errors import LimitError, UnsupportedError

SOLVER = "cadical"
TIME_LIMIT = 120.0  # seconds of CPU time for the check of one proof
CONFLICTS = 1_000_000  # of the SAT solver for one obligation; a proof with more is not checked in time
_HANGS = 1800.0  # wall-clock seconds, after which a SAT solver is stopped
_UNSATISFIABLE, _SATISFIABLE, _UNDECIDED = 20, 10, 0  # exit statuses of SAT solvers
# Without inprocessing there are fewer clauses in a proof, and all follow by unit propagation.
_OPTIONS = ("-q", "-n", "--no-binary", "--no-elim", "--no-probe", "--no-subsume", "--no-decompose")


class Status(enum.StrEnum):
    """The state of one text's certificate."""

    CERTIFIED = "certified"
    """A proof was found and checked."""
    REJECTED = "rejected"
    """The clauses can be satisfied, or the proof is wrong."""
    OUT_OF_REACH = "out-of-reach"
    """A limit was hit or a tool is missing."""


@dataclass(frozen=True)
class Certificate:
    """The result for one text.

    :param reason: why it is not certified.
    :param steps: clauses that the proof adds.
    :param cnf: SHA-256 of the clauses in DIMACS form.
    :param proof: SHA-256 of the proof.
    """

    status: Status
    reason: str = ""
    variables: int = 0
    clauses: int = 0
    steps: int = 0
    seconds: float = 0.0
    cnf: str = ""
    proof: str = ""


def solver_version() -> str:
    """Return name and version of the SAT solver; empty if it is not installed."""
    path = shutil.which(SOLVER)
    if path is None:
        return ""
    found = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return f"{SOLVER} {found.stdout.strip()}"


def prove_unsatisfiable(cnf: Cnf, conflicts: int = CONFLICTS) -> str:
    """Return a proof, in DRAT's text form, that no assignment satisfies ``cnf``.

    :raises ProofError: if one does.
    :raises LimitError: if the SAT solver is missing or exceeds ``conflicts``.
    """
    path = shutil.which(SOLVER)
    if path is None:
        raise LimitError(f"no {SOLVER} installed")
    with tempfile.TemporaryDirectory(prefix="verify-certify-") as name:
        query, proof = Path(name) / "question.cnf", Path(name) / "proof.drat"
        query.write_text(cnf.dimacs())
        try:
            done = subprocess.run(
                [path, *_OPTIONS, "-c", str(conflicts), str(query), str(proof)],
                capture_output=True,
                text=True,
                check=False,
                timeout=_HANGS,
            )
        except subprocess.TimeoutExpired as error:
            raise LimitError(f"{SOLVER} does not end on {len(cnf.clauses)} clauses") from error
        if done.returncode == _SATISFIABLE:
            raise ProofError("the clauses can be satisfied")
        if done.returncode == _UNDECIDED:
            size = f"{len(cnf.clauses)} clauses"
            raise LimitError(f"too large: {SOLVER} exceeds {conflicts} conflicts on {size}")
        if done.returncode != _UNSATISFIABLE:
            raise LimitError(f"{SOLVER} ended with status {done.returncode}: {done.stderr.strip()[:80]}")
        return proof.read_text()


def certify(text: str, limit: float = TIME_LIMIT, clauses: int = CLAUSE_LIMIT) -> Certificate:
    """Return a certificate for the SMT-LIB script ``text``, or why there is none.

    :param limit: seconds of CPU time for the check of the proof.
    :param clauses: the maximum number that is tried.
    """
    started = time.monotonic()
    cnf: Cnf | None = None
    steps, proof, reason, status = 0, "", "", Status.CERTIFIED
    try:
        cnf = bit_blast(text, clauses)
        proof = prove_unsatisfiable(cnf)
        steps = check_proof(cnf.variables, cnf.clauses, proof, time.process_time() + limit)
    except (LimitError, UnsupportedError) as error:
        status, reason = Status.OUT_OF_REACH, str(error)
    except ProofError as error:
        status, reason = Status.REJECTED, str(error)
    if cnf is not None and proof and status is Status.OUT_OF_REACH:
        reason = f"too large: {reason}: {len(cnf.clauses)} clauses, {proof.count(chr(10))} steps"
    return Certificate(
        status=status,
        reason=reason,
        variables=cnf.variables if cnf else 0,
        clauses=len(cnf.clauses) if cnf else 0,
        steps=steps,
        seconds=round(time.monotonic() - started, 3),
        cnf=hashlib.sha256(cnf.dimacs().encode()).hexdigest() if cnf else "",
        proof=hashlib.sha256(proof.encode()).hexdigest() if proof else "",
    )
