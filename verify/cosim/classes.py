"""Opcode classes: encodings that differ in their operands only.

Two encodings are of one class if both SLEIGH and capstone print them with the same
mnemonic and operands of the same kinds.
"""

from __future__ import annotations

import functools
import random
import re
from dataclasses import dataclass

import capstone
from kexec_verify.arm64.lift import decode
from kexec_verify.cosim.states import unpredictable
from kexec_verify.errors import UnsupportedError

_CONDITIONS = "eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le|al|nv"
_RULES = (
    (re.compile(r"\b(?:x\d+|xzr|lr|fp)\b"), "X"),
    (re.compile(r"\b(?:w\d+|wzr)\b"), "W"),
    (re.compile(r"#?-?\b0x[0-9a-f]+\b|#-?\d+|\b\d+\b"), "N"),
    (re.compile(r"\b(?:lsl|lsr|asr|ror)\b"), "SHIFT"),
    (re.compile(r"\b(?:[us]xt[bhwx])\b"), "EXTEND"),
    (re.compile(rf"\b(?:{_CONDITIONS})\b"), "COND"),
)


@dataclass(frozen=True)
class Shape:
    """How SLEIGH and capstone print the encodings of one class."""

    sleigh: str
    capstone: str


@functools.cache
def _capstone() -> capstone.Cs:
    return capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)


def _shape(mnemonic: str, operands: str) -> str:
    mnemonic = re.sub(r"^b\.\w+$", "b.COND", mnemonic.lower())
    operands = operands.lower()
    for pattern, kind in _RULES:
        operands = pattern.sub(kind, operands)
    return f"{mnemonic} {re.sub(r'[ ,]+', ' ', operands)}".strip()


def accepted(word: int, address: int) -> str | None:
    """Return the shape that capstone prints ``word`` with; None if it knows no such instruction."""
    for _, _, mnemonic, operands in _capstone().disasm_lite(word.to_bytes(4, "little"), address):
        return _shape(mnemonic, operands)
    return None


def classify(word: int, address: int) -> Shape | None:
    """Return the class of ``word``; None if SLEIGH or capstone knows no such instruction."""
    try:
        text = decode(word, address).text
    except UnsupportedError:
        return None
    mnemonic, _, operands = text.partition(" ")
    theirs = accepted(word, address)
    return None if theirs is None else Shape(_shape(mnemonic, operands), theirs)


def mutations(seeds: list[int], address: int, count: int, rng: random.Random) -> list[int]:
    """Return up to ``count`` further encodings of the class of ``seeds``, found by flipping bits.

    Each encoding found is a start for further changes. Bits that never led anywhere alone are tried less
    often,
    but still tried: fields of logical immediates change together only.
    """
    shape = classify(seeds[0], address)
    found: dict[int, None] = {}
    places = list(seeds)
    free = [bit for bit in range(32) if classify(seeds[0] ^ 1 << bit, address) == shape]
    for _ in range(8 * count):
        if len(found) >= count:
            break
        word = rng.choice(places)
        usual = free and rng.randrange(4)
        for bit in rng.sample(free if usual else range(32), rng.randrange(1, 1 + min(6, len(free) or 3))):
            word ^= 1 << bit
        if word in found or word in seeds or unpredictable(word) or classify(word, address) != shape:
            continue
        found[word] = None
        places.append(word)
    return list(found)
