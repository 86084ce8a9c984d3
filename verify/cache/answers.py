"""Cache solvers' answers, keyed by a hash of the text, the kind of query, and the solvers' versions."""

from __future__ import annotations

import hashlib
import zlib
from functools import cached_property

import msgspec
from kexec_verify.cache.store import Cache
from kexec_verify.prove.solvers import Answer, Replies, Reply, bitwuzla_version, z3_version

KIND = "answer"
MODEL = "model"
_KINDS = ("settle", "filter_by")


class StoredReply(msgspec.Struct, frozen=True):
    """Cached answers together with their query, so that anyone can run the query again.

    :param kind: the function of :mod:`kexec_verify.prove.solvers` that was asked.
    """

    kind: str
    seed: int
    text: str
    replies: tuple[Reply, ...]


class Answers:
    """Answers of earlier runs; those to another query or of another version do not count.

    :param recheck: find nothing, and keep what is found out again.
    """

    def __init__(self, cache: Cache, recheck: bool = False):
        self._cache = cache
        self._recheck = recheck

    def find(self, kind: str, text: str, seed: int) -> Replies | None:
        """Return the answers that the installed solvers once gave to ``text``."""
        if self._recheck:
            return None
        data = self._cache.find(KIND, self._key(kind, text, seed))
        kept = decode_answer(data) if data is not None else None
        # The seal says who wrote it, the text whether it is the answer to this question.
        if kept is None or (kept.kind, kept.text, kept.seed) != (kind, text, seed):
            return None
        return kept.replies

    def keep(self, kind: str, text: str, seed: int, replies: Replies) -> None:
        """Cache answers; that a solver gave up is not an answer."""
        kept = StoredReply(kind, seed, text, replies)
        if _is_answered(kept):
            self._cache.keep(KIND, self._key(kind, text, seed), zlib.compress(msgspec.json.encode(kept), 1))

    def find_model(self, key: str) -> dict[str, int] | None:
        """Return the values stored under ``key``, if any. Whoever uses them checks that they are a model."""
        data = None if self._recheck else self._cache.find(MODEL, _digest(key))
        try:
            return None if data is None else msgspec.json.decode(zlib.decompress(data), type=dict[str, int])
        except (zlib.error, msgspec.DecodeError):
            return None

    def keep_model(self, key: str, model: dict[str, int]) -> None:
        """Store the values of a model, if they have at most 64 bits."""
        if all(value < 1 << 64 for value in model.values()):
            self._cache.keep(MODEL, _digest(key), zlib.compress(msgspec.json.encode(model), 1))

    @cached_property
    def _versions(self) -> str:
        return f"{z3_version()}\0{bitwuzla_version()}"

    def _key(self, kind: str, text: str, seed: int) -> bytes:
        return hashlib.sha256(f"{self._versions}\0{kind}\0{seed}\0{text}".encode()).digest()


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "backslashreplace")).digest()


def decode_answer(data: bytes) -> StoredReply | None:
    """Return the answers in a cached value; None if it holds none."""
    try:
        kept = msgspec.json.decode(zlib.decompress(data), type=StoredReply)
    except (zlib.error, msgspec.DecodeError):
        return None
    return kept if _is_answered(kept) else None


def _is_answered(kept: StoredReply) -> bool:
    return (
        kept.kind in _KINDS
        and bool(kept.replies)
        and all(reply.answer is not Answer.UNKNOWN for reply in kept.replies)
    )
