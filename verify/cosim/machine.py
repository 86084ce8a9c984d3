"""Run single instructions on Unicorn and read the state afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import unicorn
from kexec_verify.arm64.emulator import emulator
from kexec_verify.arm64.state import GENERAL
from unicorn import arm64_const as uc

CODE = 0x10_0000
CODE_SIZE = 0x2000
WINDOW_SIZE = 0x2000
WINDOWS = (0x20_0000, 0xFFFF_7FFF_FFFF_F000)
"""Where data is mapped: low, and across a carry into the upper bits of an address."""

_REGISTERS = [getattr(uc, f"UC_ARM64_REG_{name.upper()}") for name in (*GENERAL, "sp")]
_READ = [*_REGISTERS, uc.UC_ARM64_REG_NZCV, uc.UC_ARM64_REG_PC]
_NO_END = 1 << 63


@dataclass(frozen=True)
class After:
    """The state after one instruction, or the fault that it took.

    :param registers: x0 to x30, sp, N, Z, C, V.
    """

    registers: tuple[int, ...]
    target: int
    memory: tuple[bytes, ...]
    fault: str = ""


class Machine:
    """One CPU with two pages of code and the data windows.

    :param memory: what each of WINDOWS holds before every instruction.
    """

    def __init__(self, memory: Sequence[bytes]):
        self.memory = tuple(memory)
        self._unicorn = emulator()
        self._unicorn.mem_map(CODE, CODE_SIZE)
        for start in WINDOWS:
            self._unicorn.mem_map(start, WINDOW_SIZE)
        self._restore()

    def _restore(self) -> None:
        for start, data in zip(WINDOWS, self.memory, strict=True):
            self._unicorn.mem_write(start, data)

    def place(self, word: int, address: int) -> None:
        """Put the instruction ``word`` at ``address``, within the code pages."""
        self._unicorn.mem_write(address, word.to_bytes(4, "little"))
        # Unicorn keeps the translation of what stood there before.
        self._unicorn.ctl_remove_cache(address, address + 4)

    def run(self, address: int, registers: Sequence[int], nzcv: int) -> After:
        """Run the instruction at ``address`` once.

        :param registers: x0 to x30 and sp.
        :param nzcv: the four flags, N in bit 3.
        """
        machine = self._unicorn
        machine.reg_write_batch(
            [*zip(_REGISTERS, registers, strict=True), (uc.UC_ARM64_REG_NZCV, nzcv << 28)]
        )
        fault = ""
        try:
            machine.emu_start(address, _NO_END, count=1)
        except unicorn.UcError as error:
            # Where a branch goes to need not be mapped: it is taken all the same.
            if (
                error.errno != unicorn.UC_ERR_FETCH_UNMAPPED
                or machine.reg_read(uc.UC_ARM64_REG_PC) == address
            ):
                fault = str(error)
        *after, flags, target = machine.reg_read_batch(_READ)
        found = tuple(bytes(machine.mem_read(start, WINDOW_SIZE)) for start in WINDOWS)
        if found != self.memory:
            self._restore()
        bits = flags >> 28
        shown = (*after, bits >> 3 & 1, bits >> 2 & 1, bits >> 1 & 1, bits & 1)
        return After(shown, target, found, fault)
