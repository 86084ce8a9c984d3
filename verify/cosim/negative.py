"""Check negative decodes: an instruction with a meaning in the engine must be known to Unicorn and
capstone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from kexec_verify.arm64.lift import decode
from kexec_verify.cosim.classes import accepted
from kexec_verify.cosim.compare import compare
from kexec_verify.cosim.machine import CODE, Machine
from kexec_verify.cosim.meaning import Meaning
from kexec_verify.cosim.states import random_memory, random_state, unpredictable
from kexec_verify.cosim.system import disagreement
from kexec_verify.cosim.system_table import is_system
from kexec_verify.errors import UnsupportedError

_STATES = 4
_LITERAL = 0b011  # bits 29:27 of a load whose address is the program counter's


@dataclass
class Tried:
    """Results for some words; counts as in the report."""

    words: int = 0
    refused: int = 0
    system: int = 0
    unpredictable: int = 0
    unmapped: int = 0
    compared: int = 0
    unlisted: int = 0
    vectors: int = 0
    mismatches: list[list[str]] = field(default_factory=list)


def random_words(rng: random.Random, used: Sequence[int], count: int) -> list[int]:
    """Return ``count`` words: half are random, half are used ones with one to three bits flipped."""
    words = []
    for index in range(count):
        word = rng.getrandbits(32)
        if used and index % 2:
            word = rng.choice(used)
            for bit in rng.sample(range(32), rng.randrange(1, 4)):
                word ^= 1 << bit
        words.append(word)
    return words


def try_words(words: Sequence[int], rng: random.Random) -> Tried:
    """Compare every word to which the engine gives a meaning."""
    tried = Tried()
    machine = Machine(random_memory(rng))
    for word in words:
        _try(machine, word, rng, tried)
        decode.cache_clear()
    return tried


def _try(machine: Machine, word: int, rng: random.Random, tried: Tried) -> None:
    tried.words += 1
    try:
        if is_system(word):
            found = disagreement(word)
            tried.system += 1
            if found is not None:
                tried.mismatches.append([found])
            return
        meaning = Meaning(decode(word, CODE))
    except UnsupportedError:
        tried.refused += 1
        return
    if unpredictable(word):
        tried.unpredictable += 1
        return
    if word >> 27 & 0b111 == _LITERAL and word >> 24 & 0b11 == 0:
        tried.unmapped += 1
        return
    if accepted(word, CODE) is None:
        tried.unlisted += 1  # Unicorn must still run it, with the same result
    machine.place(word, CODE)
    tried.compared += 1
    for _ in range(_STATES):
        state = random_state(rng, word)
        if state is None:
            continue
        tried.vectors += 1
        mismatch = compare(machine, meaning, state)
        if mismatch is not None:
            tried.mismatches.append(mismatch.lines())
            return
