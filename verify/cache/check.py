"""Checks a cache: seals, that values can be read, and on demand the answers themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from verify.cache.answers import KIND, decode_answer
from verify.cache.store import Cache
from verify.prove.solvers import Answer, ask_bitwuzla, ask_z3

_ASK = {"z3": ask_z3, "bitwuzla": ask_bitwuzla}


@dataclass
class Checked:
    """What came of it.

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
                answer = _ASK[kept.reply.solver](kept.text, seed=kept.seed).answer
                if Answer.UNKNOWN is not answer != kept.reply.answer:
                    holds = False
                    found.contradicted.append(hashlib.sha256(kept.text.encode()).hexdigest())
        if not holds:
            cache.drop(kind, key)
            found.dropped += 1
    return found
