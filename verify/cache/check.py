"""Check a cache: its seals, whether values can be read, and on demand the answers themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from kexec_verify.cache.answers import KIND, decode_answer
from kexec_verify.cache.store import Cache
from kexec_verify.prove.solvers import Answer, filter_by, settle

_ASK = {"settle": settle, "filter_by": filter_by}


@dataclass
class Checked:
    """The result of checking a cache.

    :param contradicted: SHA-256 of the texts whose kept answer a solver now contradicts.
    """

    values: int = 0
    solved: int = 0
    dropped: int = 0
    contradicted: list[str] = field(default_factory=list)


def check_cache(cache: Cache, solve: bool, progress: Callable[[str], None] = lambda _: None) -> Checked:
    """Check every value and drop those that do not hold."""
    found = Checked()
    for kind, key, value, sealed in list(cache.values()):
        found.values += 1
        progress(f"value {found.values}")
        holds = sealed
        if sealed and kind == KIND:
            kept = decode_answer(value)
            holds = kept is not None
            if kept is not None and solve:
                found.solved += 1
                again = {r.solver: r.answer for r in _ASK[kept.kind](kept.text, seed=kept.seed)}
                if {reply.solver: reply.answer for reply in kept.replies} != again:
                    # That a solver gave up now contradicts nothing, but then it is no answer to keep.
                    holds = False
                if {*again.values()} - {Answer.UNKNOWN} - {reply.answer for reply in kept.replies}:
                    found.contradicted.append(hashlib.sha256(kept.text.encode()).hexdigest())
        if not holds:
            cache.drop(kind, key)
            found.dropped += 1
    return found
