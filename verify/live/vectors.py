"""What EL2's vectors are where the kernel runs at EL1 and believes that its hyp stub lies below."""

from __future__ import annotations

from kexec_verify.live.checks import Checks
from kexec_verify.live.entries import machine_kexec_proof
from kexec_verify.live.formulas import Compiled
from kexec_verify.live.loaded import Kimage
from kexec_verify.live.placement import Placement
from kexec_verify.live.stop import Stop

STUB, COPY = "__hyp_stub_vectors", "trans_pgd_stub_vectors"
_BYTES = 0x800
_ID = "stub-below-answers"


def check_stub(place: Placement, stop: Stop, given: Kimage | None, where: str, checks: Checks) -> None:
    """Check that EL2 runs the hyp stub, or its copy in the page that ``given`` names.

    :param given: the kimage whose el2_vectors EL2 was given; None before that.
    """
    below = Compiled(place.context.stub_below(machine_kexec_proof(place).entry))
    if stop.level != 1 or not below.holds(stop.state()):
        checks.add(_ID, where, None, "is_hyp_nvhe is false: no stub lies below the kernel")
        return
    vbar = stop.register("vbar_el2")
    symbol = place.kernel.symbol(STUB if given is None else COPY)
    if symbol is None:
        checks.add(_ID, where, None, "the kernel has no symbol for the stub")
        return
    expected = place.image_to_phys(symbol.address) if given is None else given["el2_vectors"]
    same = vbar == expected and place.guest.is_ram(vbar, _BYTES)
    same = same and place.guest.read(vbar, _BYTES) == place.kernel.read(symbol.address, _BYTES)
    value = f"VBAR_EL2 is {vbar:#x}, expected {symbol.name} at {expected:#x}"
    checks.add(_ID, where, same, value)
