"""Signed loads to a W register: LDRSB, LDRSH, LDURSB and LDURSH with a 32-bit result.

SLEIGH extends what they load to 64 bits, with the sign or with zeros. The architecture extends it to 32 bits
with the sign, and clears the upper half of the register (Arm ARM, C6.2.227, C6.2.229).
"""

from __future__ import annotations

from kexec_verify.arm64.state import State

_ZERO = 31


def loads_signed_to_w(word: int) -> bool:
    """Whether the instruction is one of these: size 0 or 1, no SIMD register, opc 3."""
    return word & 0xBEC0_0000 == 0x38C0_0000


def corrected(word: int, state: State) -> State:
    """Return the state after the instruction, its result extended as the architecture says.

    :param state: after SLEIGH's operations, whose last access is the load.
    """
    number = word & 31
    if number == _ZERO:
        return state
    loaded = state.accesses[-1].value
    value = loaded.sign_extend(32 - loaded.length).zero_extend(32)
    return state.with_registers(**{f"x{number}": value})
