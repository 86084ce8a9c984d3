"""What a booting kernel patches in its own text, and what it may patch.

Facts: arch/arm64/kernel/alternative.c (replacements by capability), kernel/jump_label.c and
arch/arm64/kernel/jump_label.c (a NOP or a branch by a static key), arch/arm64/kernel/ftrace.c
(``mov x9, x30`` for the first NOP of each function entry). All of them write instructions of tables
that the kernel holds (patch_tables).
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from functools import cached_property

from kexec_verify.errors import TargetError
from kexec_verify.target.capability_rows import CapabilityRow, capability_rows
from kexec_verify.target.kernel import Kernel, Segment
from kexec_verify.target.patch_tables import (
    CALLBACK,
    MOV_X9_X30,
    NOP,
    Alternative,
    JumpEntry,
    alternatives,
    branch,
    jump_entries,
    overlapping,
    traced_entries,
)
from kexec_verify.target.reaim import copied

_WRITES_NOPS = "alt_cb_patch_nops"
_LONGEST = 0xFF  # bytes of a site: a length has 8 bits
UNCONDITIONAL = -1
"""In place of a capability: the replacement is made on every machine (ARM64_CB_PATCH, before 5.17)."""


@dataclass(frozen=True)
class Site:
    """Instructions at *address* that the kernel replaces if a choice is so.

    :param original: their bytes where the choice is not so.
    :param replacement: those where it is; None if a function of the kernel makes them (*callback*).
    :param capability: the number of the capability that decides, or None.
    :param key: the address of the static key that decides, or None; *replacement* is what stands there
        while the key is set.
    :param entry: address of the table's entry.
    """

    address: int
    original: bytes
    replacement: bytes | None
    capability: int | None
    key: int | None
    entry: int
    callback: str = ""

    @property
    def end(self) -> int:
        """The first address behind them."""
        return self.address + len(self.original)


@dataclass(frozen=True)
class Patching:
    """The patch sites of one kernel.

    :param capabilities: the rows of the kernel's tables of capabilities, by number.
    :param traced: the first of the NOPs of each function entry that ftrace may patch.
    """

    capabilities: dict[int, tuple[CapabilityRow, ...]] = field(repr=False)
    alternatives: tuple[Alternative, ...] = field(repr=False)
    jumps: tuple[JumpEntry, ...] = field(repr=False)
    traced: tuple[int, ...] = field(repr=False)

    @cached_property
    def _by_address(self) -> tuple[list[int], list[Alternative | JumpEntry]]:
        entries: list[Alternative | JumpEntry] = [*self.jumps]
        entries += [entry for entry in self.alternatives if entry.size and self._known(entry)]
        entries.sort(key=_address)
        return [_address(entry) for entry in entries], entries

    def sites(self, kernel: Kernel, start: int, end: int) -> list[Site]:
        """Return the sites with an instruction from *start* up to *end*, by address.

        A site of a capability that every machine has is among them only if the tool does not know what
        the kernel writes there; one of a capability that has no row is not.

        :param kernel: the kernel of these tables, or a copy with other instructions.
        :raises TargetError: a replacement cannot be copied to its site.
        """
        addresses, entries = self._by_address
        first, last = bisect_left(addresses, start - _LONGEST), bisect_left(addresses, end)
        found = [_site(kernel, entry) for entry in entries[first:last]]
        return [
            site
            for site in found
            if site.end > start and not (self.always(site.capability) and site.replacement is not None)
        ]

    def always(self, capability: int | None) -> bool:
        """Every machine has the *capability*, or it is the mark of a callback that is always called."""
        if capability is None:
            return False
        return capability == UNCONDITIONAL or any(row.always for row in self.capabilities.get(capability, ()))

    def _known(self, entry: Alternative) -> bool:
        number = _number(entry)
        return number == UNCONDITIONAL or number in self.capabilities

    def booted(self, kernel: Kernel) -> Kernel:
        """Return the kernel with everything applied that every machine applies (see as_booted)."""
        writes = [(at, struct.pack("<I", MOV_X9_X30)) for at in self.traced]
        for entry in self.alternatives:
            if entry.size and self.always(_number(entry)):
                new, _ = _replacement(kernel, entry)
                if new is not None:
                    writes.append((entry.original, new))
        if not writes:
            return kernel
        segments = []
        for segment in kernel.segments:
            data = bytearray(segment.data)
            for at, new in writes:
                if segment.address <= at < segment.end:
                    data[at - segment.address : at - segment.address + len(new)] = new
            segments.append(Segment(segment.address, bytes(data)))
        return replace(kernel, segments=tuple(segments))


def as_booted(kernel: Kernel) -> Kernel:
    """Return the kernel with its patch sites read, and with everything applied that every machine applies.

    That are the alternatives of capabilities that every machine has, and ``mov x9, x30`` at each function
    entry that may be traced. Applying it again changes nothing. Where a function other than the one that
    writes NOPs makes the instructions, they stay as they are linked, and :meth:`Patching.sites` lists them.

    :raises TargetError: as :func:`read_patching`.
    """
    patching = read_patching(kernel)
    return replace(patching.booted(kernel), patching=patching)


def _address(entry: Alternative | JumpEntry) -> int:
    return entry.original if isinstance(entry, Alternative) else entry.code


def _number(entry: Alternative) -> int:
    if entry.callback and not entry.capability & CALLBACK:
        return UNCONDITIONAL
    return entry.capability & ~CALLBACK


def _site(kernel: Kernel, entry: Alternative | JumpEntry) -> Site:
    if isinstance(entry, JumpEntry):
        nop = struct.pack("<I", NOP)
        jump = struct.pack("<I", branch(entry.code, entry.target))
        unset, is_set = (jump, nop) if entry.likely else (nop, jump)
        return Site(entry.code, unset, is_set, None, entry.key, entry.at)
    original = kernel.read(entry.original, entry.size)
    new, name = _replacement(kernel, entry)
    return Site(entry.original, original, new, _number(entry), None, entry.at, name)


def _replacement(kernel: Kernel, entry: Alternative) -> tuple[bytes | None, str]:
    """Return what the kernel writes, or None, and the name of the function that makes it."""
    if not entry.callback:
        return copied(kernel, entry.replacement, entry.original, entry.size), ""
    names = kernel.symbols_at(entry.replacement)
    if _WRITES_NOPS in names:
        return struct.pack("<I", NOP) * (entry.size // 4), _WRITES_NOPS
    return None, names[0] if names else f"{entry.replacement:#x}"


def read_patching(kernel: Kernel) -> Patching:
    """Return the patch sites of *kernel*.

    :raises TargetError: a table cannot be read, or two sites overlap, or a site lies in a replacement.
    """
    rows = capability_rows(kernel)
    found = alternatives(kernel)
    if found and not rows:
        raise TargetError(f"{kernel.source}: expected tables of capabilities, found alternatives alone")
    jumps = jump_entries(kernel)
    ranges = [(entry.original, entry.original + entry.size) for entry in found]
    ranges += [(entry.code, entry.code + 4) for entry in jumps]
    overlap = overlapping(ranges)
    if overlap is not None:
        shown = " and ".join(kernel.where(at) for at in overlap)
        raise TargetError(f"{kernel.source}: expected patch sites apart, found two that overlap: {shown}")
    patched = {at for start, end in ranges for at in range(start, end, 4)}
    for entry in found:
        for at in range(entry.replacement, entry.replacement + entry.replacement_size, 4):
            if at in patched:
                where = kernel.where(at)
                found_there = f"found a patch site in one, {where}"
                raise TargetError(f"{kernel.source}: expected replacements that boot keeps, {found_there}")
    return Patching(rows, tuple(found), tuple(jumps), tuple(traced_entries(kernel)))
