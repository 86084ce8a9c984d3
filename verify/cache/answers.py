"""Solvers' answers, each under the hash of the solver, its version, its seed and the text."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass

import msgspec

from verify.cache.store import Cache
from verify.prove.solvers import Answer, Reply, bitwuzla_version, z3_version

KIND = "answer"
_VERSIONS = {"z3": z3_version, "bitwuzla": bitwuzla_version}


class _Value(msgspec.Struct, frozen=True):
    """An answer as it is kept; with its text, so that anyone can ask again."""

    solver: str
    version: str
    seed: int
    text: str
    answer: Answer
    seconds: float
    core: tuple[int, ...] | None


@dataclass(frozen=True)
class Kept:
    """An answer that is kept, and the question it is of."""

    text: str
    seed: int
    reply: Reply


class Answers:
    """Answers of earlier runs; what a cache has of another question, solver or version is none.

    :param recheck: find nothing, and keep what is found out again.
    """

    def __init__(self, cache: Cache, recheck: bool = False):
        self._cache = cache
        self._recheck = recheck
        self._versions: dict[str, str] = {}

    def find(self, solver: str, text: str, seed: int) -> Reply | None:
        """The answer that ``solver``, in the version installed here, gave to ``text``."""
        if self._recheck:
            return None
        data = self._cache.find(KIND, self._key(solver, text, seed))
        kept = decode_answer(data) if data is not None else None
        # The seal says who wrote it, the text whether it is the answer to this question.
        if kept is None or (kept.reply.solver, kept.text, kept.seed) != (solver, text, seed):
            return None
        return kept.reply

    def keep(self, text: str, seed: int, reply: Reply) -> None:
        """Keep an answer, if it is one: that a solver gave up is none."""
        if reply.answer is Answer.UNKNOWN:
            return
        version = self._version(reply.solver)
        value = _Value(reply.solver, version, seed, text, reply.answer, reply.seconds, reply.core)
        data = zlib.compress(msgspec.json.encode(value), 1)
        self._cache.keep(KIND, self._key(reply.solver, text, seed), data)

    def _version(self, solver: str) -> str:
        if solver not in self._versions:
            self._versions[solver] = _VERSIONS[solver]()
        return self._versions[solver]

    def _key(self, solver: str, text: str, seed: int) -> bytes:
        question = f"{self._version(solver)}\0{seed}\0{text}"
        return hashlib.sha256(question.encode()).digest()


def decode_answer(data: bytes) -> Kept | None:
    """A kept value as the answer that it is; None for one that is none."""
    try:
        value = msgspec.json.decode(zlib.decompress(data), type=_Value)
    except (zlib.error, msgspec.DecodeError):
        return None
    if value.answer is Answer.UNKNOWN:
        return None
    return Kept(value.text, value.seed, Reply(value.solver, value.answer, value.seconds, value.core))
