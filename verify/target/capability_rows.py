"""The capabilities that a kernel can find at boot: the rows of its two tables of them.

Facts: arch/arm64/kernel/cpufeature.c (arm64_features) and cpu_errata.c (arm64_errata) are arrays of struct
arm64_cpu_capabilities (arch/arm64/include/asm/cpufeature.h): description, 64-bit pointer; number and type,
16 bits each; the function that looks for it, 64-bit pointer. A row of zeros ends each. A capability that
has no row is never set. ``has_always`` finds those that every machine has.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from kexec_verify.errors import TargetError
from kexec_verify.target.kernel import Kernel

_SYMBOLS = ("arm64_features", "arm64_errata")
_TEXTS = (
    (b"LSE atomic instructions\0", b"Virtualization Host Extensions\0"),
    (b"ARM erratum 843419\0", b"Spectre-v2\0", b"ARM erratum 845719\0", b"Cavium erratum 27456\0"),
)
"""Descriptions that only a row of the one table, and of the other, has."""
_STRIDES = range(48, 168, 8)
_ROW = 24  # bytes of a row that are read
_MAX_TEXT = 120
_MAX_NUMBER = 256
_MAX_ROWS = 512
_ALWAYS = "has_always"
_SCOPES = ((1 << 2, "boot CPU"), (1 << 1, "system"), (1 << 0, "any CPU"))


@dataclass(frozen=True)
class CapabilityRow:
    """One row.

    :param description: as the kernel prints it, or None.
    :param scope: ``boot CPU``, ``system`` (every CPU has it) or ``any CPU`` (some have it).
    :param found_by: the function that looks for it, by its symbol.
    """

    number: int
    description: str | None
    scope: str
    found_by: str

    @property
    def always(self) -> bool:
        """Every machine has it."""
        return self.found_by == _ALWAYS


def capability_rows(kernel: Kernel) -> dict[int, tuple[CapabilityRow, ...]]:
    """Return the rows by the capability's number; empty for a kernel without these tables.

    :raises TargetError: only one of the tables is found, or symbols and descriptions disagree.
    """
    named = [symbol.address for name in _SYMBOLS if (symbol := kernel.symbol(name)) is not None]
    tables = [list(_by_text(kernel, texts)) for texts in _TEXTS]
    starts = {start for found in tables for start, _ in found}
    if named and (len(named) < len(_SYMBOLS) or not starts <= set(named)):
        raise TargetError(f"{kernel.source}: expected the symbols of both tables of capabilities at the rows")
    if not named and not starts:
        return {}
    if not named and any(len({start for start, _ in found}) != 1 for found in tables):
        raise TargetError(
            f"{kernel.source}: expected one table of features and one of errata, found "
            + " and ".join(str(len({start for start, _ in found})) for found in tables)
        )
    ends = dict(one for found in tables for one in found)
    rows: dict[int, list[CapabilityRow]] = {}
    for start in named or sorted(starts):
        stride = ends.get(start) or _stride(kernel, start)
        if stride is None:
            raise TargetError(f"{kernel.source}: expected rows of capabilities at {start:#x}, found none")
        for at in _rows(kernel, start, stride):
            row = _read(kernel, at)
            assert row is not None
            rows.setdefault(row.number, []).append(row)
    return {number: tuple(found) for number, found in rows.items()}


def _by_text(kernel: Kernel, texts: tuple[bytes, ...]) -> Iterator[tuple[int, int]]:
    """Yield where a table starts that has one of *texts* for a description, and the bytes of its rows."""
    for text in texts:
        for address in _found(kernel, text):
            for at in _found(kernel, struct.pack("<Q", address)):
                stride = next((s for s in _STRIDES if _fits(kernel, at, s)), None)
                if stride is not None:
                    start = at
                    while _read(kernel, start - stride) is not None:
                        start -= stride
                    yield start, stride


def _fits(kernel: Kernel, at: int, stride: int) -> bool:
    """Rows follow each other from *at* on, down to the row of zeros."""
    rows = 0
    while _read(kernel, at) is not None and rows < _MAX_ROWS:
        at += stride
        rows += 1
    return rows > 2 and kernel.mapped(at, _ROW) and not any(kernel.read(at, _ROW))


def _stride(kernel: Kernel, start: int) -> int | None:
    return next((stride for stride in _STRIDES if _fits(kernel, start, stride)), None)


def _rows(kernel: Kernel, start: int, stride: int) -> Iterator[int]:
    at = start
    while _read(kernel, at) is not None:
        yield at
        at += stride


def _read(kernel: Kernel, at: int) -> CapabilityRow | None:
    """Return the row at *at*; None if there is none."""
    if not kernel.mapped(at, _ROW):
        return None
    pointer, number, kind, _, matches = struct.unpack("<QHHIQ", kernel.read(at, _ROW))
    if number >= _MAX_NUMBER or not kind or matches % 4:
        return None
    # Objects that are linked without the rest of the kernel name functions that are not in the file.
    if not kernel.mapped(matches, 4) and not kernel.symbols_at(matches):
        return None
    text = _text(kernel, pointer) if pointer else None
    if pointer and text is None:
        return None
    scope = next((words for bit, words in _SCOPES if kind & bit), None)
    if scope is None:
        return None
    return CapabilityRow(number, text, scope, ", ".join(kernel.symbols_at(matches)) or f"{matches:#x}")


def _text(kernel: Kernel, at: int) -> str | None:
    for size in (_MAX_TEXT, 32, 8):
        if kernel.mapped(at, size):
            text, ended, _ = kernel.read(at, size).partition(b"\0")
            if not text or not ended or not text.isascii():
                return None
            return text.decode() if text.decode().isprintable() else None
    return None


def _found(kernel: Kernel, data: bytes) -> Iterator[int]:
    for segment in kernel.segments:
        at = segment.data.find(data)
        while at >= 0:
            yield segment.address + at
            at = segment.data.find(data, at + 1)
