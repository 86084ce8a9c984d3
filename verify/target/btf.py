"""Offsets of structure members from a kernel's BTF, where it carries any.

Source: Documentation/bpf/btf.rst (the format), include/asm-generic/vmlinux.lds.h
(__start_BTF and __stop_BTF around the blob).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from kexec_verify.errors import TargetError
from kexec_verify.target.kernel import Kernel

_MAGIC = b"\x9f\xeb\x01\x00"  # magic 0xeB9F, version 1, no flags
_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_MEMBER = struct.Struct("<III")
_STRUCT = 4
_MOST = 1 << 16  # words like the magic; kernels have fewer than ten
# Bytes behind a type's three words: a constant, and so many for each of its vlen entries.
_TAIL = {
    1: (4, 0),
    2: (0, 0),
    3: (12, 0),
    4: (0, 12),
    5: (0, 12),
    6: (0, 8),
    7: (0, 0),
    8: (0, 0),
    9: (0, 0),
    10: (0, 0),
    11: (0, 0),
    12: (0, 0),
    13: (0, 8),
    14: (4, 0),
    15: (0, 12),
    16: (0, 0),
    17: (4, 0),
    18: (0, 0),
    19: (0, 12),
}


@dataclass(frozen=True)
class Blob:
    """One BTF blob: its type and string sections."""

    types: bytes
    strings: bytes

    def name(self, offset: int) -> bytes:
        """Return the string at ``offset``."""
        end = self.strings.find(b"\0", offset)
        return self.strings[offset : end if end >= 0 else None]

    def structs(self, wanted: bytes) -> Iterator[dict[str, int]]:
        """Return member offsets in bytes for each structure called ``wanted``, without bit fields."""
        at = 0
        while at + _TYPE.size <= len(self.types):
            name, info, _ = _TYPE.unpack_from(self.types, at)
            kind, count = info >> 24 & 0x1F, info & 0xFFFF
            if kind not in _TAIL:
                raise TargetError(f"expected BTF type kinds 1 to 19, found {kind}")
            fixed, each = _TAIL[kind]
            body, at = at + _TYPE.size, at + _TYPE.size + fixed + each * count
            if kind == _STRUCT and at <= len(self.types) and self.name(name) == wanted:
                members = (_MEMBER.unpack_from(self.types, body + 12 * i) for i in range(count))
                yield {
                    self.name(member).decode("ascii", "replace"): (offset & 0xFFFFFF) // 8
                    for member, _, offset in members
                    if not offset & 7
                }


def find(kernel: Kernel) -> Blob | None:
    """Return the kernel's own BTF, or None if it has none.

    :raises TargetError: if its magic is all over the kernel.
    """
    looks = 0
    for segment in kernel.segments:
        at = segment.data.find(_MAGIC)
        while at >= 0:
            blob = _blob(segment.data, at)
            if blob is not None:
                return blob
            looks += 1
            if looks > _MOST:
                raise TargetError(f"{kernel.source}: expected one BTF blob, found its magic {looks} times")
            at = segment.data.find(_MAGIC, at + 4)
    return None


def _blob(data: bytes, at: int) -> Blob | None:
    """Return the blob at ``at``, if it begins with a plausible header of the kernel's own BTF."""
    if at + _HEADER.size > len(data):
        return None
    _, _, _, header, type_at, type_size, string_at, string_size = _HEADER.unpack_from(data, at)
    start = at + header
    if header < _HEADER.size or type_at or string_at != type_size or type_size < 1 << 16:
        return None
    end = start + string_at + string_size
    if end > len(data) or not string_size or data[start + string_at] != 0:
        return None
    return Blob(data[start : start + type_size], data[start + string_at : end])


def member_offsets(kernel: Kernel, name: str) -> dict[str, int] | None:
    """Return the offsets in bytes of the members of ``struct name``, or None if BTF does not say.

    :raises TargetError: if its BTF is malformed.
    """
    blob = find(kernel)
    if blob is None:
        return None
    return next(blob.structs(name.encode()), None)
