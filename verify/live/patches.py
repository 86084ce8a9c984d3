"""The instructions in RAM against the linked ones: what boot has changed in the functions under proof."""

from __future__ import annotations

from collections.abc import Iterator

from capstone import CS_ARCH_ARM64, CS_MODE_ARM, Cs
from kexec_verify.errors import VerifyError
from kexec_verify.kexec.locate import find_function
from kexec_verify.live.checks import Checks
from kexec_verify.live.model import DifferenceRecord
from kexec_verify.live.placement import Placement
from kexec_verify.specs.contracts import CONTRACTS

_FUNCTIONS = (
    *("machine_kexec", "machine_kexec_post_load", "cpu_soft_restart", "__cpu_soft_restart"),
    *("__hyp_stub_vectors", "trans_pgd_stub_vectors"),
)
_NOP, _SAVE_LINK = 0xD503_201F, 0xAA1E_03E9
_FTRACE = "ftrace: mov x9, x30 in place of the first nop of a patchable entry (arch/arm64/kernel/ftrace.c)"
_LONGEST = 1 << 14


def differences(place: Placement) -> list[DifferenceRecord]:
    """Return each instruction of the functions under proof, and of their callees, that differs in RAM."""
    found = []
    for address, linked, running in _words(place):
        why = _FTRACE if (linked, running) == (_NOP, _SAVE_LINK) else ""
        at = place.linked_address(address)
        texts = (_text(linked, at), _text(running, at))
        found.append(DifferenceRecord(place.where(address), at, *texts, why))
    return found


def _words(place: Placement) -> Iterator[tuple[int, int, int]]:
    """Yield the address at which each such instruction runs, the linked word and the one in RAM."""
    for start, code in sorted(_code(place).items()):
        running = place.guest.read(place.image_to_phys(start), len(code))
        for offset in range(0, len(code) & -4, 4):
            words = (int.from_bytes(data[offset : offset + 4], "little") for data in (code, running))
            one, other = words
            if one != other:
                yield start + offset, one, other


def _code(place: Placement) -> dict[int, bytes]:
    """Return the linked bytes of each function by the address at which it runs."""
    routine = place.routine
    found = {routine.address: routine.code}
    proved = [name for contract in CONTRACTS if not contract.assumed for name in contract.names]
    for name in (*_FUNCTIONS, *proved):
        try:
            function = find_function(place.kernel, name)
        except VerifyError:
            continue
        if len(function.code) <= _LONGEST:
            found[function.address] = function.code
    return found


def check_patches(place: Placement, checks: Checks) -> list[DifferenceRecord]:
    """Check that the functions under proof and the callees with proved contracts run as they are linked."""
    found = differences(place)
    unexplained = [record for record in found if not record.why]
    shown = "; ".join(f"{r.where}: {r.linked} became {r.running}" for r in unexplained[:4])
    explained = f"{len(found) - len(unexplained)} explained"
    value = f"{len(unexplained)} instructions differ, {explained}: {shown}" if unexplained else explained
    checks.add("alternatives-unapplied", "where machine_kexec is entered", not found, value)
    return found


def _text(word: int, address: int) -> str:
    for instruction in Cs(CS_ARCH_ARM64, CS_MODE_ARM).disasm(word.to_bytes(4, "little"), address):
        return f"{instruction.mnemonic} {instruction.op_str}".strip()
    return f".word {word:#x}"
