"""Make Unicorn's arm64 CPU, with the settings that every run here uses."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import unicorn

_TRANSLATED_BYTES = 1 << 24


def emulator() -> unicorn.Uc:
    """Return a CPU with nothing mapped.

    By default Unicorn reserves a gigabyte of address space for translated code. Under a limit on address
    space it would end the process with status 1, which means REFUTED.
    """
    made = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
    made.ctl_set_tcg_buffer_size(_TRANSLATED_BYTES)
    return made


class Registers:
    """Reads the same 64-bit registers again and again.

    Unicorn's own methods make new arrays for each read, which takes 30 times as long as the read itself.
    """

    def __init__(self, uc: unicorn.Uc, registers: Sequence[int]):
        self._uc, self._count = uc, len(registers)
        self._ids = (ctypes.c_int * self._count)(*registers)
        self._values = (ctypes.c_uint64 * self._count)()
        first, size = ctypes.addressof(self._values), ctypes.sizeof(ctypes.c_uint64)
        self._places = (ctypes.c_void_p * self._count)(*(first + size * i for i in range(self._count)))

    def read(self) -> list[int]:
        """Return their values now.

        :raises unicorn.UcError: if Unicorn cannot read them.
        """
        status = self._uc._do_reg_read_batch(self._ids, self._places, self._count)
        if status != unicorn.UC_ERR_OK:
            raise unicorn.UcError(status)
        return self._values[:]
