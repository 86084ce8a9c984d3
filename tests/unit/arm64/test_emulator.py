"""Registers are read in one call as they are read one by one."""

from kexec_verify.arm64.emulator import Registers, emulator
from unicorn import arm64_const

IDS = [getattr(arm64_const, f"UC_ARM64_REG_X{number}") for number in range(31)] + [
    arm64_const.UC_ARM64_REG_SP
]


def test_registers_are_read_as_they_are_now():
    uc = emulator()
    registers = Registers(uc, IDS)
    for round_ in (1, 2):
        values = [(number + round_) * 0x9E37_79B9_7F4A_7C15 % (1 << 64) for number in range(len(IDS))]
        for name, value in zip(IDS, values, strict=True):
            uc.reg_write(name, value)
        assert registers.read() == values == [uc.reg_read(name) for name in IDS]
