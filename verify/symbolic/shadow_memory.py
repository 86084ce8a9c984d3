"""KASAN's shadow memory: a byte for each 8 bytes of memory, which instrumented code reads and writes inline.

The shadow of an address is at ``(address >> 3) + offset`` (asm/memory.h, KASAN_SHADOW_OFFSET). A byte of it is 0
if all 8 bytes of memory may be accessed. The generic mode of KASAN alone is meant here.
"""

from __future__ import annotations

from dataclasses import dataclass

from kexec_verify.logic import Term, addends, const, constant, difference, normal
from kexec_verify.symbolic.objects import Object

SHADOW = "KASAN's shadow"
SCALE_SHIFT = 3  # KASAN_SHADOW_SCALE_SHIFT of the generic mode
_SHADOW_BYTES = 1 << (64 - SCALE_SHIFT)
_FRAME_GRANULES = 1 << 9  # further than any access from the shadow of an address


@dataclass(frozen=True)
class ShadowMemory(Object):
    """The shadow of every other object.

    :param start: KASAN_SHADOW_OFFSET.
    """

    start: int = 0

    @property
    def is_shadow(self) -> bool:
        """True."""
        return True

    def offset(self, address: Term) -> Term | None:
        """Return the memory that the byte at ``address`` is the shadow of; None if the address is no shadow's."""
        value = constant(address)
        if value is not None:
            distance = (value - self.start) % (1 << 64)
            return const(distance << SCALE_SHIFT) if distance < _SHADOW_BYTES else None
        for part in addends(address):
            if part.op != "LShR" or constant(part.args[1]) != SCALE_SHIFT:
                continue
            granules = constant(difference(address, part + const(self.start)))
            if granules is not None and granules < _FRAME_GRANULES:
                return normal(part.args[0] + const(granules << SCALE_SHIFT))
        return None


def shadow_memory(page_end: int) -> ShadowMemory:
    """Return the shadow in a kernel whose shadow ends where *page_end* says, the end of the linear map without KASAN.

    KASAN_SHADOW_END, the shadow of the end of memory, is _PAGE_END(VA_BITS_MIN) in every configuration
    (arch/arm64/Kconfig, KASAN_SHADOW_OFFSET).
    """
    start = (page_end - _SHADOW_BYTES) % (1 << 64)
    return ShadowMemory(SHADOW, None, start, page_end, {}, start)
