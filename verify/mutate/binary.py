"""Mutate a function: delete each instruction, swap it with the next, or change it in one bit.

A one-bit change of an encoding changes an operand, an immediate, a condition or the opcode. Which one it is
follows from the two disassemblies.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kexec_verify.arm64.lift import SIZE, Code
from kexec_verify.errors import UnsupportedError

NOP = 0xD503201F
_BITS = 32
_REGISTER = re.compile(r"\b([xw]\d+|[xw]zr|sp|wsp)\b")
_NUMBER = re.compile(r"#?0x[0-9a-f]+|#\d+")


@dataclass(frozen=True)
class Mutant:
    """A function with one fault seeded.

    :param kind: ``deletion``, ``swap``, ``register``, ``immediate``, ``condition`` or ``opcode``.
    :param edit: the change, in words.
    """

    kind: str
    at: int
    edit: str
    code: Code


def mutants(code: Code, addresses: Sequence[int] | None = None) -> Iterator[Mutant]:
    """Yield every mutant of ``code`` that decodes to instructions.

    :param addresses: of the instructions to change; None for all.
    """
    among = code.addresses if addresses is None else addresses
    for address in among:
        word, text = code.at(address).word, code.at(address).text
        if word != NOP:
            yield Mutant("deletion", address, f"{text} → nop", code.patched(address, NOP))
        following = address + SIZE
        if following in among and code.at(following).word != word:
            other = code.at(following)
            swapped = code.patched(address, other.word).patched(following, word)
            yield Mutant("swap", address, f"{text} ↔ {other.text}", swapped)
        for bit in range(_BITS):
            changed = code.patched(address, word ^ 1 << bit)
            try:
                new = changed.at(address).text
            except UnsupportedError:
                continue
            yield Mutant(_kind(text, new), address, f"{text} → {new}", changed)


def sample(code: Code, most: int, seed: int, addresses: Sequence[int] | None = None) -> list[Mutant]:
    """Return at most ``most`` mutants, spread over instructions and kinds; the same for the same seed.

    :param addresses: of the instructions to change; None for all.
    """
    found = list(mutants(code, addresses))
    random.Random(seed).shuffle(found)
    seen: dict[tuple[int, str], int] = {}
    ranked = []
    for mutant in found:
        place = (mutant.at, mutant.kind)
        seen[place] = seen.get(place, 0) + 1
        ranked.append((seen[place], mutant))
    ranked.sort(key=lambda pair: pair[0])
    chosen = [mutant for _, mutant in ranked[:most]]
    return sorted(chosen, key=lambda mutant: (mutant.at, mutant.kind, mutant.edit))


def shares(sizes: Sequence[int], most: int) -> list[int]:
    """Divide ``most`` in proportion to ``sizes``, none larger than its size (largest remainders)."""
    total = sum(sizes)
    if total <= most:
        return list(sizes)
    exact = [size * most for size in sizes]
    found = [value // total for value in exact]
    by_rest = sorted(range(len(sizes)), key=lambda i: (-(exact[i] % total), i))
    for i in by_rest[: most - sum(found)]:
        found[i] += 1
    return found


def _kind(old: str, new: str) -> str:
    """Return what a change of an instruction's text is a change of."""
    old_name, new_name = old.split(" ")[0], new.split(" ")[0]
    if old_name != new_name:
        both = old_name.startswith("b.") and new_name.startswith("b.")
        return "condition" if both else "opcode"
    if _REGISTER.findall(old) != _REGISTER.findall(new):
        return "register"
    if _NUMBER.findall(old) != _NUMBER.findall(new):
        return "immediate"
    return "opcode"
