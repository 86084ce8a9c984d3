"""Find which addresses named functions of a kernel read, store and form, as evidence of where globals are."""

from __future__ import annotations

from collections.abc import Iterator

import capstone
from capstone import arm64
from kexec_verify.errors import TargetError
from kexec_verify.kexec.locate import find_function
from kexec_verify.target import Kernel
from kexec_verify.target.constants import MASK, walk

_LOADS = {
    "x": frozenset({arm64.ARM64_INS_LDR}),
    "w": frozenset({arm64.ARM64_INS_LDR}),
    "signed": frozenset({arm64.ARM64_INS_LDRSW}),
}


def _walk(kernel: Kernel, function: str) -> Iterator[tuple[capstone.CsInsn, dict[str, int]]]:
    """Yield each instruction of the function with the registers that are constant before it.

    Yield none if the kernel does not have the function.
    """
    try:
        code = find_function(kernel, function)
    except TargetError:
        return
    yield from walk(kernel, code.address, code.code)


def _place(insn: capstone.CsInsn, known: dict[str, int]) -> int | None:
    """Return the constant address that an instruction accesses."""
    if len(insn.operands) != 2 or insn.operands[1].type != arm64.ARM64_OP_MEM:
        return None
    memory = insn.operands[1].mem
    base = known.get(insn.reg_name(memory.base))
    return None if base is None or memory.index else (base + memory.disp) & MASK


def words_read(kernel: Kernel, function: str, kind: str) -> set[int]:
    """Return the addresses of the words that the function reads.

    :param kind: ``x`` for 64 bits, ``w`` for 32 bits, ``signed`` for 32 bits that are sign-extended.
    """
    found = set()
    for insn, known in _walk(kernel, function):
        if insn.id in _LOADS[kind] and insn.reg_name(insn.operands[0].reg)[0] == kind[0].replace("s", "x"):
            place = _place(insn, known)
            if place is not None:
                found.add(place)
    return found


def words_stored(kernel: Kernel, function: str) -> set[int]:
    """Return the addresses of the 64-bit words that the function stores."""
    stores = ((i, known) for i, known in _walk(kernel, function) if i.id == arm64.ARM64_INS_STR)
    places = (_place(i, known) for i, known in stores if i.reg_name(i.operands[0].reg).startswith("x"))
    return {place for place in places if place is not None}


def addresses_formed(kernel: Kernel, function: str, aligned: int) -> set[int]:
    """Return the addresses that the function forms by adrp and add, multiples of ``aligned``."""
    found = set()
    for insn, known in _walk(kernel, function):
        if insn.id == arm64.ARM64_INS_ADD and insn.operands[2].type == arm64.ARM64_OP_IMM:
            base = known.get(insn.reg_name(insn.operands[1].reg))
            if base is not None and not (base + insn.operands[2].imm) % aligned:
                found.add((base + insn.operands[2].imm) & MASK)
    return found


def pages_formed(kernel: Kernel, function: str) -> set[int]:
    """Return the addresses that the function forms by adrp."""
    return {i.operands[1].imm & MASK for i, _ in _walk(kernel, function) if i.id == arm64.ARM64_INS_ADRP}


def constants_held(kernel: Kernel, function: str) -> set[int]:
    """Return the constants that a register holds at some instruction of the function."""
    return {value for _, known in _walk(kernel, function) for value in known.values()}


def masks_set(kernel: Kernel, function: str) -> set[int]:
    """Return the constants that the function sets bits of a 64-bit register by (orr with an immediate)."""
    return {
        insn.operands[2].imm & MASK
        for insn, _ in _walk(kernel, function)
        if insn.id == arm64.ARM64_INS_ORR
        and len(insn.operands) == 3
        and insn.operands[2].type == arm64.ARM64_OP_IMM
        and insn.reg_name(insn.operands[0].reg).startswith("x")
    }


def stored_difference(kernel: Kernel, function: str) -> set[int]:
    """Return where a difference from x0 is stored: __primary_switched stores the image's physical address
    there.
    """
    differences: set[str] = set()
    for insn, known in _walk(kernel, function):
        name = insn.reg_name(insn.operands[0].reg) if insn.operands and insn.operands[0].reg else ""
        if insn.id == arm64.ARM64_INS_STR and name in differences:
            base = known.get(insn.reg_name(insn.operands[1].mem.base))
            return set() if base is None else {(base + insn.operands[1].mem.disp) & MASK}
        operands = [operand for operand in insn.operands if operand.type == arm64.ARM64_OP_REG]
        registers = [insn.reg_name(operand.reg) for operand in operands]
        if insn.id == arm64.ARM64_INS_SUB and len(registers) == 3 and registers[2] == "x0":
            differences.add(name)
        else:
            differences.discard(name)
    return set()


def passed(kernel: Kernel, function: str, callee: str, register: str) -> set[int]:
    """Return what the function passes to ``callee`` in ``register``, if that is a constant."""
    found = set()
    for insn, known in _walk(kernel, function):
        if insn.id == arm64.ARM64_INS_BL and callee in kernel.symbols_at(insn.operands[0].imm & MASK):
            if register in known:
                found.add(known[register])
    return found


def written(kernel: Kernel, function: str, register: int) -> set[int]:
    """Constants that the function writes to a system register.

    :param register: capstone's number of it, such as ``ARM64_SYSREG_TTBR0_EL1``.
    """
    found = set()
    for insn, known in _walk(kernel, function):
        if insn.id == arm64.ARM64_INS_MSR and insn.operands[0].reg == register:
            value = known.get(insn.reg_name(insn.operands[1].reg))
            if value is not None:
                found.add(value)
    return found


def lowest_pointer(kernel: Kernel, function: str) -> set[int]:
    """Return the lowest constant address that the function forms or stores to.

    set_cpu_boot_mode_flag and is_hyp_mode_available use one array, and nothing below it.
    """
    found = addresses_formed(kernel, function, 4)
    for insn, known in _walk(kernel, function):
        if insn.id == arm64.ARM64_INS_STR:
            place = _place(insn, known)
            found |= set() if place is None else {place}
    return {min(found)} if found else set()


def folds_addresses(kernel: Kernel, function: str) -> bool | None:
    """Return whether the function folds address bits 51 to 48 into a TTBR (phys_to_ttbr); None if it is
    missing.
    """
    found = None
    for insn, _ in _walk(kernel, function):
        last = insn.operands[-1] if insn.operands else None
        shift = None if last is None or insn.id != arm64.ARM64_INS_ORR else last.shift
        folded = shift is not None and shift.value == 46 and shift.type == arm64.ARM64_SFT_LSR
        found = bool(found) or folded
    return found
