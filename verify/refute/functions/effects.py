"""Define the inputs of a run of one function, and its effects."""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class Answer(msgspec.Struct, frozen=True):
    """The effect of a call or an HVC on registers and memory.

    :param name: of the callee; ``at``: address of the call.
    :param registers: general and system registers and flags that it sets.
    :param stores: bytes in hexadecimal that it writes, by address.
    """

    name: str
    at: int
    registers: dict[str, int]
    stores: dict[int, str] = {}


class Inputs(msgspec.Struct, frozen=True):
    """Everything that a run depends on besides the function's bytes.

    :param registers: all of them, SP, flags and system registers included.
    :param memory: 64-bit words by address; the rest of ``pages`` is zero.
    :param length: instructions to execute.
    """

    start: int
    registers: dict[str, int]
    memory: dict[int, int]
    pages: tuple[int, ...]
    answers: tuple[Answer, ...]
    length: int


class Accessed(NamedTuple):
    """One load or store."""

    kind: str
    at: int
    address: int
    size: int
    value: int


class Happened(NamedTuple):
    """A system instruction, a call or a WARN, with the registers just before it.

    :param operand: what an MSR writes, or the address of maintenance by address, else 0.
    """

    name: str
    at: int
    operand: int
    registers: dict[str, int]


class Left(NamedTuple):
    """How control left: ``call``, ``br``, ``ret``, ``brk``, ``eret``; or ``stopped`` or a ``fault``."""

    kind: str
    at: int
    target: int
