"""The instructions in RAM against the linked ones: what boot has changed in the functions under proof."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from capstone import CS_ARCH_ARM64, CS_MODE_ARM, Cs
from kexec_verify.errors import VerifyError
from kexec_verify.kexec.choices import name_of
from kexec_verify.kexec.locate import find_function
from kexec_verify.kexec.patch_sites import AS_LINKED
from kexec_verify.live.checks import Checks
from kexec_verify.live.placement import Placement
from kexec_verify.report.live_model import DifferenceRecord
from kexec_verify.report.model import Run
from kexec_verify.specs.contracts import CONTRACTS
from kexec_verify.specs.kvm_vectors import HOST_HVC, HOST_VECTORS, STUB_HANDLER
from kexec_verify.target.patch_tables import NOP

_FUNCTIONS = (
    *("machine_kexec", "machine_kexec_post_load", "cpu_soft_restart", "__cpu_soft_restart"),
    *("__hyp_stub_vectors", "trans_pgd_stub_vectors", HOST_VECTORS, HOST_HVC, STUB_HANDLER),
)
_BEFORE_ENTRY = "ftrace: the address of its operations, in front of a function's entry"
_LONGEST = 1 << 14


def differences(place: Placement, names: Collection[str] = ()) -> list[DifferenceRecord]:
    """Return each instruction of the functions under proof that differs in RAM from what is proved.

    What is proved is the linked code with what boot patches on every machine (as_booted).

    :param names: of the functions that a finished run of these bytes is about; none if there is no run.
    """
    found = []
    for address, proved, running in _words(place, names):
        at = place.linked_address(address)
        texts = (_text(proved, at), _text(running, at))
        why = _BEFORE_ENTRY if proved == NOP and _is_before_entry(place, at) else _reason(place, at, running)
        found.append(DifferenceRecord(place.where(address), at, *texts, why))
    return found


def _is_before_entry(place: Placement, at: int) -> bool:
    """Return whether a function begins one or two instructions behind ``at``: there is no code there."""
    kernel = place.linked.kernel
    return any(kernel.symbols_at(at + distance) for distance in (4, 8))


def _reason(place: Placement, at: int, running: int) -> str:
    """Return which choice of boot's has written the word that runs at a linked address; "" if not known."""
    kernel = place.linked.kernel
    patching = kernel.patching
    if patching is None:
        return ""
    for site in patching.sites(kernel, at, at + 4):
        written = None if site.replacement is None else site.replacement[at - site.address :][:4]
        if written == running.to_bytes(4, "little"):
            return name_of(kernel, site)
    return ""


def _words(place: Placement, names: Collection[str]) -> Iterator[tuple[int, int, int]]:
    """Yield the address at which each such instruction runs, the linked word and the one in RAM."""
    for start, code in sorted(_code(place, names).items()):
        running = place.guest.read(place.image_to_phys(start), len(code))
        for offset in range(0, len(code) & -4, 4):
            words = (int.from_bytes(data[offset : offset + 4], "little") for data in (code, running))
            one, other = words
            if one != other:
                yield start + offset, one, other


def _code(place: Placement, names: Collection[str]) -> dict[int, bytes]:
    """Return the linked bytes of each function by the address at which it runs."""
    routine = place.routine
    found = {routine.address: routine.code}
    proved = [name for contract in CONTRACTS if not contract.assumed for name in contract.names]
    for name in (*_FUNCTIONS, *(names or proved)):
        try:
            function = find_function(place.kernel, name)
        except VerifyError:
            continue
        if len(function.code) <= _LONGEST:
            found[function.address] = function.code
    return found


def check_patches(place: Placement, checks: Checks, proved: Run | None) -> list[DifferenceRecord]:
    """Check that the functions under proof run as they are proved.

    :param proved: a finished run of these bytes; without one the callees of every kernel are compared.
    """
    names = [function.name for function in proved.functions] if proved is not None else []
    found = differences(place, names)
    linked = [record for record in found if _is_proved_as_linked(record, proved)]
    traced = [record for record in found if _is_at_an_entry(place, record)]
    for assumption, broken, holds in (
        ("alternatives-unapplied", linked, "what is proved in one way only runs as it is proved"),
        ("patched-as-tables-say", [r for r in found if not r.why], f"{len(found)} differ, as the tables say"),
        ("not-traced", traced, "every function entry is as boot leaves it"),
    ):
        told = [f"{r.where}: {r.linked} became {r.running}, {r.why or 'not explained'}" for r in broken]
        value = f"{len(told)} instructions differ: {'; '.join(told[:4])}" if told else holds
        checks.add(assumption, "where machine_kexec is entered", not told, value)
    return found


def _is_proved_as_linked(record: DifferenceRecord, proved: Run | None) -> bool:
    """The proofs hold for one way that boot may patch the instruction: for the one that every machine has.

    That is so where the run has a note of the place. Without a run, and of an instruction that no table
    explains, every function of the kexec path counts.
    """
    if record.why == _BEFORE_ENTRY:
        return False
    function = record.where.partition("+")[0]
    notes = proved.notes if proved is not None else []
    noted = any(AS_LINKED in note and record.where in note for note in notes)
    return noted or (function in _FUNCTIONS and (proved is None or not record.why))


def _is_at_an_entry(place: Placement, record: DifferenceRecord) -> bool:
    """The instruction is one of those at a function's entry that a tracer patches."""
    patching = place.linked.kernel.patching
    return patching is not None and any(record.address in (at, at + 4) for at in patching.traced)


def _text(word: int, address: int) -> str:
    for instruction in Cs(CS_ARCH_ARM64, CS_MODE_ARM).disasm(word.to_bytes(4, "little"), address):
        return f"{instruction.mnemonic} {instruction.op_str}".strip()
    return f".word {word:#x}"
