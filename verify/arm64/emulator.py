"""Make Unicorn's arm64 CPU, with the settings that every run here uses."""

from __future__ import annotations

import unicorn

_TRANSLATED_BYTES = 1 << 24


def emulator() -> unicorn.Uc:
    """Return a CPU with nothing mapped.

    By default Unicorn reserves a gigabyte of address space for translated code. Under a limit on address
    space
    it would end the process with status 1, which means REFUTED.
    """
    made = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
    made.ctl_set_tcg_buffer_size(_TRANSLATED_BYTES)
    return made
