"""Seeded faults: one instruction of a kernel replaced, named as the kernel prints addresses."""

from __future__ import annotations

import re

from kexec_verify.errors import UsageError
from kexec_verify.kexec.locate import ROUTINE, find_routine
from kexec_verify.near import near
from kexec_verify.target import Kernel

_PATCH = re.compile(
    r"(?P<symbol>[^+=]+)(\+(?P<offset>0x[0-9a-fA-F]{1,16}|[0-9]{1,20}))?="
    r"(?P<word>0x[0-9a-fA-F]{1,8}|[0-9]{1,10})"
)


def patched(kernel: Kernel, patch: str) -> Kernel:
    """Return ``kernel`` with the instruction at SYMBOL+OFFSET replaced by WORD.

    :raises UsageError: if the patch is malformed or names no instruction of the kernel.
    """
    match = _PATCH.fullmatch(patch)
    if match is None:
        raise UsageError(f"expected SYMBOL+OFFSET=WORD, found {patch[:80]!r}")
    name, offset, word = match["symbol"], int(match["offset"] or "0", 0), int(match["word"], 0)
    if name == ROUTINE:
        address = find_routine(kernel).address  # 6.1 has no symbol for it
    else:
        symbol = kernel.symbol(name)
        if symbol is None:
            hint = near(name, (known.name for known in kernel.symbols))
            raise UsageError(f"expected a symbol of {kernel.name}, found {name[:80]!r}{hint}")
        address = symbol.address
    if offset % 4 or word >> 32:
        raise UsageError(f"expected a multiple of 4 and a 32-bit word, found {patch!r}")
    return kernel.patched(address + offset, word.to_bytes(4, "little"))
