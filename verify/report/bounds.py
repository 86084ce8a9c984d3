"""Check the values in a run.json beyond their types: anybody may have written it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from kexec_verify.report.model import FunctionRecord, Run

PAGE_SIZES = (1 << 12, 1 << 14, 1 << 16)  # bytes (Documentation/arch/arm64/memory.rst)
_UNKNOWN = 0  # page size of a function that is not the routine
_SIZE = 4  # bytes of an instruction
_MASK = (1 << 64) - 1
_WORD = (1 << 32) - 1


# A number that may be out of range, where JSON has one: negative, with an exponent, of 21 digits, or of 20
# that may be more than 64 bits hold. Text in a string may look like one.
_SUSPECT = re.compile(
    rb"""[:\[,]\s* (?: - | \d{21} | (?!18446[0-6])\d{20} | \d+ (?:\.\d+)? [eE] ) | "(?: -\d+ | \d{20,} )" """,
    re.VERBOSE,
)


def require_machine_values(run: Run, data: bytes) -> None:
    """Refuse a run without a function, or with numbers that no machine has.

    :param data: the JSON that the run was read from. Few runs have a number that must be looked at.
    :raises ValueError: the message says what was found.
    """
    if not run.functions:
        raise ValueError("no function")
    for function in run.functions:
        _require_function(function)
    numbers = _numbers(msgspec.to_builtins(run)) if _SUSPECT.search(data) else ()
    for number in numbers:
        if not 0 <= number <= _MASK:
            raise ValueError(f"the number {number}")


def _require_function(function: FunctionRecord) -> None:
    if function.page_size not in (_UNKNOWN, *PAGE_SIZES):
        raise ValueError(f"pages of {function.page_size} bytes")
    if any(offset > _WORD for offset in function.layout.values()):
        raise ValueError("an offset in struct kimage of 2^32 or more")
    for row, instruction in enumerate(function.instructions):
        if instruction.word > _WORD or instruction.address != function.address + _SIZE * row:
            raise ValueError(f"an instruction {instruction.word:#x} at {instruction.address:#x}")


def _numbers(value: object) -> Iterator[float]:
    """Yield every number in plain data; keys that are numbers in text are numbers too."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str) and key.lstrip("-").isdecimal() and len(key) > 1:
                yield int(key[:_LONGEST])
            yield from _numbers(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float):
        yield value


_LONGEST = 24  # digits; more are out of range whatever they are
