"""What EL2's vectors are where the kernel runs at EL1 and believes that its hyp stub lies below."""

from __future__ import annotations

from kexec_verify.live.checks import Checks
from kexec_verify.live.entries import machine_kexec_proof
from kexec_verify.live.formulas import Compiled
from kexec_verify.live.loaded import Kimage
from kexec_verify.live.placement import Placement
from kexec_verify.live.stop import Stop
from kexec_verify.specs.hyp_stub import LOWER_EL_SYNC
from kexec_verify.specs.kvm_vectors import HOST_VECTORS, PHYSVIRT_OFFSET

STUB, COPY = "__hyp_stub_vectors", "trans_pgd_stub_vectors"
_BYTES = 0x800
_SLOT_BYTES = 0x80
_ID, _KVM_ID = "stub-below-answers", "kvm-at-el2"
_MASK = (1 << 64) - 1


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
    if given is None and _check_kvm(place, stop, vbar, where, checks):
        return
    expected = place.image_to_phys(symbol.address) if given is None else given["el2_vectors"]
    same = vbar == expected and place.guest.is_ram(vbar, _BYTES)
    same = same and place.guest.read(vbar, _BYTES) == place.kernel.read(symbol.address, _BYTES)
    value = f"VBAR_EL2 is {vbar:#x}, expected {symbol.name} at {expected:#x}"
    checks.add(_ID, where, same, value)


def kvm_distance(place: Placement, stop: Stop) -> int | None:
    """Return a physical address less EL2's address for it, if EL2 runs KVM's host vectors; else None."""
    symbol, known = place.kernel.symbol(HOST_VECTORS), place.context.globals
    if stop.level != 1 or symbol is None or PHYSVIRT_OFFSET not in known or not stop.has("vbar_el2"):
        return None
    distance = place.guest.word(place.image_to_phys(known[PHYSVIRT_OFFSET]))
    vectors = (stop.register("vbar_el2") + distance) & _MASK
    return distance if vectors == place.image_to_phys(symbol.address) else None


def _check_kvm(place: Placement, stop: Stop, vbar: int, where: str, checks: Checks) -> bool:
    """Check that EL2 runs KVM's host vectors as they are proved; whether it runs them at all."""
    distance = kvm_distance(place, stop)
    if distance is None:
        return False
    at = (vbar + distance) & _MASK
    slot = place.kernel.symbol(HOST_VECTORS)
    assert slot is not None
    same = place.guest.read(at + LOWER_EL_SYNC, _SLOT_BYTES) == place.kernel.read(
        slot.address + LOWER_EL_SYNC, _SLOT_BYTES
    )
    value = f"VBAR_EL2 is {vbar:#x}, KVM's host vectors at {at:#x}"
    checks.add(_ID, where, same, value)
    checks.add(_KVM_ID, where, same, f"{value}; hyp_physvirt_offset is {distance:#x}")
    return True
