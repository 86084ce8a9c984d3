"""Constants in registers along a function, in the order of its instructions.

What is not modelled makes the registers it writes unknown, a branch target makes all of them
unknown, so a constant found here is one on every path.
"""

import struct
from collections.abc import Iterator

import capstone
from capstone import arm64
from kexec_verify.target.kernel import Kernel

MASK = (1 << 64) - 1
_CLOBBERED = (*(f"x{n}" for n in range(19)), "x30")  # AAPCS64: a call keeps x19..x29

_CALLS = (arm64.ARM64_INS_BL, arm64.ARM64_INS_BLR, arm64.ARM64_INS_HVC, arm64.ARM64_INS_SMC)
_ENDS = (arm64.ARM64_INS_B, arm64.ARM64_INS_BR, arm64.ARM64_INS_RET, arm64.ARM64_INS_ERET)


def walk(
    kernel: Kernel, address: int, code: bytes, constant_words: frozenset[str] = frozenset()
) -> Iterator[tuple[capstone.CsInsn, dict[str, int]]]:
    """Yield each instruction of *code*, at *address*, with the constants in registers before it.

    :param constant_words: symbols of 64-bit words that never change; loads of others are unknown.
    """
    decoder = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
    decoder.detail = True
    decoder.skipdata = False
    instructions = [
        next(decoder.disasm(code[at : at + 4], address + at), None) for at in range(0, len(code), 4)
    ]
    targets = {
        operand.imm & MASK
        for insn in instructions
        if insn is not None and insn.group(capstone.CS_GRP_JUMP)
        for operand in insn.operands
        if operand.type == arm64.ARM64_OP_IMM
    }
    known: dict[str, int] = {}
    for insn in instructions:
        if insn is None or insn.address in targets:
            known = {}
        if insn is None:
            continue
        yield insn, known
        if insn.id in _ENDS and "." not in insn.mnemonic:
            known = {}  # the next instruction is reached from elsewhere
            continue
        if insn.id in _CALLS:
            for register in _CLOBBERED:
                known.pop(register, None)
            continue
        _step(kernel, insn, known, constant_words)


def _step(
    kernel: Kernel, insn: capstone.CsInsn, known: dict[str, int], constant_words: frozenset[str]
) -> None:
    """Carry *known* over one instruction."""
    value = _result(kernel, insn, known, constant_words)
    _, written = insn.regs_access()
    for register in written:
        name = insn.reg_name(register)
        known.pop(f"x{name[1:]}" if name[0] == "w" else name, None)
    if value is not None:
        known[insn.reg_name(insn.operands[0].reg)] = value & MASK


def _result(
    kernel: Kernel, insn: capstone.CsInsn, known: dict[str, int], constant_words: frozenset[str]
) -> int | None:
    """Return the constant that *insn* puts into its first operand, a 64-bit register, or None."""
    operands = insn.operands
    if not operands or operands[0].type != arm64.ARM64_OP_REG:
        return None
    if not insn.reg_name(operands[0].reg).startswith("x"):
        return None
    values = [_value(insn, operand, known) for operand in operands[1:]]
    match insn.id, values:
        case (
            arm64.ARM64_INS_ADRP | arm64.ARM64_INS_ADR | arm64.ARM64_INS_MOV | arm64.ARM64_INS_MOVZ,
            [int(value)],
        ):
            return value
        case arm64.ARM64_INS_MOVN, [int(value)]:
            return ~value
        case arm64.ARM64_INS_MOVK, [int(value)] if insn.reg_name(operands[0].reg) in known:
            kept = ~(0xFFFF << operands[1].shift.value)
            return known[insn.reg_name(operands[0].reg)] & kept | value
        case arm64.ARM64_INS_ADD, [int(left), int(right)]:
            return left + right
        case arm64.ARM64_INS_SUB, [int(left), int(right)]:
            return left - right
        case arm64.ARM64_INS_LDR, _:
            return _loaded(kernel, insn, known, constant_words)
        case _:
            return None


def _value(insn: capstone.CsInsn, operand: arm64.Arm64Op, known: dict[str, int]) -> int | None:
    if operand.ext != arm64.ARM64_EXT_INVALID:
        return None
    if operand.type == arm64.ARM64_OP_IMM:
        value = int(operand.imm)
    elif operand.type == arm64.ARM64_OP_REG:
        name = insn.reg_name(operand.reg)
        if name == "xzr":
            value = 0
        elif name in known:
            value = known[name]
        else:
            return None
    else:
        return None
    if operand.shift.type == arm64.ARM64_SFT_INVALID:
        return value
    return value << operand.shift.value if operand.shift.type == arm64.ARM64_SFT_LSL else None


def _loaded(
    kernel: Kernel, insn: capstone.CsInsn, known: dict[str, int], constant_words: frozenset[str]
) -> int | None:
    """Return the word that *insn* loads, when it is one of *constant_words*."""
    operand = insn.operands[1]
    if insn.writeback or len(insn.operands) != 2:
        return None
    if operand.type == arm64.ARM64_OP_IMM:
        address = operand.imm & MASK
    elif operand.type == arm64.ARM64_OP_MEM and not operand.mem.index:
        base = known.get(insn.reg_name(operand.mem.base))
        if base is None:
            return None
        address = (base + operand.mem.disp) & MASK
    else:
        return None
    # Other words in memory may change before they are loaded.
    if not constant_words.intersection(kernel.symbols_at(address)):
        return None
    if not kernel.mapped(address, 8):
        return None
    return int(struct.unpack("<Q", kernel.read(address, 8))[0])
