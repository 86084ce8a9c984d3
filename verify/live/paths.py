"""The paths that a run took, held against the instructions that the proofs of the same kernel cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from kexec_verify.live.checks import Checks
from kexec_verify.live.loaded import Kimage
from kexec_verify.live.placement import Placement
from kexec_verify.report.model import InstructionRecord, Run
from kexec_verify.specs.hyp_stub import LOWER_EL_SYNC
from kexec_verify.specs.kvm_vectors import HOST_HVC, HOST_VECTORS, STUB_HANDLER

_VECTORS_BYTES = 0x800
_STUB_BYTES = 0x900  # the vectors, and the code behind them that they branch to
_KVM_BYTES = 0x80  # of each piece of KVM's code that an HVC runs
_UNLISTED = (
    *(("__hyp_stub_vectors", 0, _STUB_BYTES), ("trans_pgd_stub_vectors", 0, _STUB_BYTES)),
    (HOST_VECTORS, LOWER_EL_SYNC, _KVM_BYTES),
    *((HOST_HVC, 0, _KVM_BYTES), (STUB_HANDLER, 0, _KVM_BYTES)),
)
"""Code at EL2 that is under proof, and of which run.json lists no instructions: symbol, offset, bytes."""
_SHOWN = 4
_MASK = (1 << 64) - 1


@dataclass
class Paths:
    """Checks paths by a finished run of the same bytes.

    :param proved: the run; None if there is none.
    :param kvm: distance from EL2's addresses to physical ones, where EL2 runs KVM's code.
    """

    place: Placement
    kimage: Kimage
    proved: Run | None
    kvm: int | None = None

    def __post_init__(self) -> None:
        functions = self.proved.functions if self.proved is not None else []
        self._listed: dict[int, InstructionRecord] = {
            instruction.address: instruction for f in functions for instruction in f.instructions
        }

    def origin(self, address: int) -> int | None:
        """Return the address that the code at ``address`` is linked for; None if it is none of the image's.

        The routine runs from the control page, EL2's vectors from a page of their own, the restart code at
        its physical address, and KVM's code at addresses of EL2's.
        """
        place, kimage = self.place, self.kimage
        if address >> 63:
            return place.linked_address(address)
        start = place.routine.copied_from
        if start is not None and kimage.control <= address < kimage.control + place.linked.page_size:
            return place.linked_address(start + address - kimage.control)
        vectors = place.kernel.symbol("trans_pgd_stub_vectors")
        if vectors is not None and 0 <= address - kimage["el2_vectors"] < _VECTORS_BYTES:
            return place.linked_address(vectors.address + address - kimage["el2_vectors"])
        if not place.in_image(address) and self.kvm is not None:
            address = (address + self.kvm) & _MASK
        return place.linked.start + address - place.base if place.in_image(address) else None

    def check(self, what: str, path: Sequence[int], checks: Checks) -> None:
        """Check that each instruction of a path is covered, and that the proofs have each step."""
        if self.proved is None:
            checks.add("", what, None, "there is no finished run of these bytes: verify run TARGET")
            return
        origins = [self.origin(address) for address in path]
        told = []
        for address, origin in zip(path, origins, strict=True):
            known = None if origin is None else self._listed.get(origin)
            if known is None and self._is_unlisted(origin):
                continue
            if known is None:
                told.append(f"{self._where(address, origin)} is under no proof")
            elif not known.covered:
                told.append(f"{self._where(address, origin)} is not covered")
        for one, other in pairwise(origins):
            known = None if one is None else self._listed.get(one)
            if known is not None and known.then and other in self._listed and other not in known.then:
                if self._same_function(one, other):
                    told.append(f"no step from {self._where(0, one)} to {self._where(0, other)} is known")
        told = list(dict.fromkeys(told))
        value = "; ".join(told[:_SHOWN]) or f"{len(path)} steps over {len(set(path))} instructions"
        checks.add("", what, not told, value)

    def _is_unlisted(self, origin: int | None) -> bool:
        """Return whether code linked for ``origin`` is under proof at EL2."""
        for name, offset, size in _UNLISTED:
            symbol = self.place.linked.kernel.symbol(name)
            if symbol is not None and origin is not None and 0 <= origin - symbol.address - offset < size:
                return True
        return False

    def _same_function(self, one: int | None, other: int | None) -> bool:
        kernel = self.place.linked.kernel
        first, second = (kernel.symbol_before(at) for at in (one or 0, other or 0))
        return first == second

    def _where(self, address: int, origin: int | None) -> str:
        return f"{address:#x}" if origin is None else self.place.linked.kernel.where(origin)
