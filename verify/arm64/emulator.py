"""Unicorn's arm64 CPU, as every run here has it."""

from __future__ import annotations

import unicorn

_TRANSLATED_BYTES = 1 << 24


def emulator() -> unicorn.Uc:
    """A CPU with nothing mapped.

    Of its own Unicorn reserves a gigabyte of address space for translated code; under a limit on
    that it would end the process, with the status that means refuted.
    """
    made = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
    made.ctl_set_tcg_buffer_size(_TRANSLATED_BYTES)
    return made
