"""check.json: the result of checking a finished run again."""

from __future__ import annotations

import msgspec
from kexec_verify.verdict import Verdict

SCHEMA = 2
FILE = "check.json"


class AnswerRecord(msgspec.Struct, frozen=True):
    """One solver's answer; time in seconds."""

    solver: str
    answer: str
    seconds: float


class CertificateRecord(msgspec.Struct, frozen=True):
    """The certificate of one text: `kexec_verify.check.certify.Certificate` in its written form."""

    status: str
    reason: str
    variables: int
    clauses: int
    steps: int
    seconds: float
    cnf_sha256: str
    proof_sha256: str


class TextRecord(msgspec.Struct, frozen=True):
    """One SMT-LIB text of the run; ``live`` if its hypotheses can hold, where that was checked."""

    text: str
    sha256: str
    claimed: Verdict
    answers: list[AnswerRecord]
    live: bool | None
    holds: bool
    certificate: CertificateRecord | None = None


class ClaimRecord(msgspec.Struct, frozen=True):
    """One property: the verdict in the run, and the verdict from its obligations.

    ``digest`` is a SHA-256 over the names and texts of its obligations: two runs of the same tool on the
    same bytes have the same.
    """

    id: str
    claimed: Verdict
    recomputed: Verdict
    reason: str
    obligations: int
    digest: str


class Check(msgspec.Struct, frozen=True):
    """One check of one run; time in seconds, ``run_sha256`` is that of run.json.

    ``certified`` and ``uncertified`` count obligations, the latter by reason; they are
    empty if no certificates were requested. ``sealed`` says that run.json bears this user's seal,
    ``absent`` are properties that are missing from the run, ``unsettled`` is what the run's files cannot show
    or what nobody decided, and ``exit_status`` is that of ``verify check``.
    """

    schema: int
    tool: str
    run_sha256: str
    seconds: float
    versions: dict[str, str]
    obligations: int
    texts: list[TextRecord]
    claims: list[ClaimRecord]
    certified: int
    uncertified: dict[str, int]
    faults: list[str]
    sealed: bool
    absent: list[str]
    unsettled: list[str]
    exit_status: int
