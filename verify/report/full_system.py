"""Run the bytes of a recorded counterexample on QEMU's machine, which has page tables, levels and faults."""

from __future__ import annotations

from kexec_verify.arm64.lift import Code
from kexec_verify.bare_metal.image import STUB_SLOTS
from kexec_verify.bare_metal.run import Outcome, enter_restart, enter_routine, enter_stub
from kexec_verify.bare_metal.scene import sctlr_left_by
from kexec_verify.kexec.context import RESTART
from kexec_verify.kexec.soft_restart import COPIED_VECTORS, VECTORS
from kexec_verify.report.replay import Recorded, RecordedCall


def enter(item: Recorded | RecordedCall, page_size: int) -> Outcome | None:
    """Return the result of the recorded code on QEMU's machine; None for code without a scene there.

    The machine runs the routine over lists of its own, not over the counterexample's. It has no
    caches and does not reorder, so code that enters may still be wrong.

    :param page_size: of the kernel, in bytes.
    :raises UsageError: if QEMU is not installed.
    """
    if isinstance(item, Recorded):
        layout = item.variant.layout
        if layout is None:
            return None
        return enter_routine(item.code.data, layout.arch, item.variant.page_size)
    return _enter_function(item.code, page_size)


def _enter_function(code: Code, page_size: int) -> Outcome | None:
    if code.name in RESTART:
        return enter_restart(code.data, page_size, sctlr=sctlr_left_by(code.name))
    if code.name in (VECTORS, COPIED_VECTORS):
        stub = code.data[: STUB_SLOTS * page_size]
        return enter_stub(stub, page_size, sets_vectors=code.name == VECTORS)
    return None
