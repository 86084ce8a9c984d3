"""Cache finished runs, keyed by a hash of everything that decides their result."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence

import msgspec
from kexec_verify.cache.store import Cache
from kexec_verify.digest import tool_digest
from kexec_verify.report.model import Run
from kexec_verify.verdict import Verdict

KIND = "run"
_DECIDED = frozenset({Verdict.PROVED, Verdict.REFUTED, Verdict.UNSUPPORTED})
"""Verdicts that do not hang on the machine and its load."""


class Finished(msgspec.Struct, frozen=True):
    """A finished run: the files of its report by name, and what the terminal showed."""

    files: dict[str, bytes]
    lines: list[str]


def query(sha256: str, source: str, place: str, request: Sequence[str], seed: int) -> bytes:
    """Return a digest of the target's file, the request, and the tool.

    :param sha256: of the target's file, in hexadecimal.
    :param source: the target as the user typed it; ``place``: its report's directory; both are in the report.
    :param request: what else decides the result: where the target is, the properties as the user typed
        them, the names of those that are decided, the user's waivers.
    """
    parts = (sha256, source, place, *request, str(seed), tool_digest())
    return hashlib.sha256("\0".join(parts).encode("utf-8", "backslashreplace")).digest()


def find_run(cache: Cache, key: bytes) -> Finished | None:
    """Return the run that ``key`` names, if it was ever finished."""
    data = cache.find(KIND, key)
    try:
        return None if data is None else msgspec.msgpack.decode(zlib.decompress(data), type=Finished)
    except (zlib.error, msgspec.DecodeError):
        return None


def keep_run(cache: Cache, key: bytes, run: Run, finished: Finished) -> None:
    """Cache a run, if all of it was decided."""
    if run.complete and all(record.verdict in _DECIDED for record in run.properties):
        cache.keep(KIND, key, zlib.compress(msgspec.msgpack.encode(finished), 1))
