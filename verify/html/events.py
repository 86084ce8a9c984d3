"""Describe in words what a system instruction does in the model."""

from __future__ import annotations

_WORDS = {
    "DataSynchronizationBarrier": "barrier: waits until earlier stores and maintenance are complete",
    "DataMemoryBarrier": "barrier: orders memory accesses, completes nothing",
    "InstructionSynchronizationBarrier": "context synchronization: earlier register writes take effect",
    "DC_CIVAC": "cleans and invalidates one data-cache line to the point of coherency",
    "DC_CVAC": "cleans one data-cache line to the point of coherency",
    "DC_IVAC": "invalidates one data-cache line: what it held is lost",
    "DC_CVAU": "cleans one data-cache line to the point of unification",
    "IC_IVAU": "invalidates one instruction-cache line",
    "IC_IALLU": "invalidates the instruction cache",
    "TLBI_VMALLE1": "invalidates the TLB of this CPU",
    "CallHyperVisor": "call to EL2: x0 to x17 are unknown after it",
    "SoftwareBreakpoint": "breakpoint: a BUG or a WARN; no path of a proof shows which",
    "msr sctlr_el1": "writes SCTLR_EL1: MMU and caches; needs an ISB",
    "msr ttbr0_el1": "changes the lower half's translation table; needs an ISB",
    "msr ttbr1_el1": "changes the kernel half's translation table; needs an ISB",
    "msr tcr_el1": "changes translation control; needs an ISB",
    "msr daif": "masks or unmasks interrupts",
    "mrs ctr_el0": "reads the cache geometry",
}


_ENDS = {"BUG": "BUG: control does not come back", "WARN": "WARN: prints a warning and goes on"}


def words(event: str, end: str = "") -> str:
    """Return the description of the ``event`` of an instruction record; the event itself if there is none.

    :param end: ``BUG`` or ``WARN``, where a breakpoint is known as one.
    """
    if end in _ENDS:
        return _ENDS[end]
    if event not in _WORDS and event.startswith(("mrs ", "msr ")):
        verb, register = event.split(" ", 1)
        return f"{'reads' if verb == 'mrs' else 'writes'} {register.upper()}"
    return _WORDS.get(event, event)
