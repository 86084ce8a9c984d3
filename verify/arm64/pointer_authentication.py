"""Sign and authenticate return addresses: paciasp and autiasp (Arm ARM, C6.2.259 and C6.2.22).

A signed address is an uninterpreted function of address and SP. All that is known of it is that
authenticating it with the same SP yields the address again. That holds on a CPU without pointer
authentication too, where both instructions are NOPs.
"""

from __future__ import annotations

from collections.abc import Callable

from kexec_verify.arm64.state import State
from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import Function, application, normal, same

PACIASP = 0xD503_233F
AUTIASP = 0xD503_23BF

_SIGNED = Function("signed")


def sign(state: State, at: int) -> State:
    """Execute paciasp: sign x30 with SP as the modifier."""
    return state.with_registers(x30=_SIGNED(state.registers["x30"], state.sp))


def authenticate(state: State, at: int) -> State:
    """Execute autiasp: restore x30 that was signed with the same SP.

    :raises UnsupportedError: for an address that was not signed so, which may fault.
    """
    signed = application(state.registers["x30"])
    if signed is None or signed.function != _SIGNED.name or not same(signed.arguments[1], normal(state.sp)):
        raise UnsupportedError("authentication of an address that was not signed with this SP", at)
    return state.with_registers(x30=signed.arguments[0])


MEANING: dict[int, Callable[[State, int], State]] = {PACIASP: sign, AUTIASP: authenticate}
"""By encoding: SLEIGH takes these for nops."""
