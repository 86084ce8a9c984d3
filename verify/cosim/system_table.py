"""Say what system instructions must do, by their bit fields and not by SLEIGH.

Written from the Arm Architecture Reference Manual, C4.1.93 (branches, exception generating and system
instructions) and the operation pseudocode of each instruction; the names below are the pseudocode's. Unicorn
runs these instructions but shows nothing of their effects, so the engine is compared with this table instead.
"""

from __future__ import annotations

from dataclasses import dataclass

_ZERO = 31


@dataclass(frozen=True)
class Fields:
    """The fields of an instruction of the class ``System`` (bits 31:22 = 1101010100)."""

    read: bool
    op0: int
    op1: int
    crn: int
    crm: int
    op2: int
    rt: int

    @property
    def register(self) -> tuple[int, int, int, int, int]:
        """Return the fields that name a system register or operation."""
        return self.op0, self.op1, self.crn, self.crm, self.op2


@dataclass(frozen=True)
class Expected:
    """What an instruction must do.

    :param name: of the function in the architecture's pseudocode.
    :param event: what the engine calls it; empty if it records nothing.
    :param operands: of the event: a number with its width in bits, or a register's name.
    :param source: register whose value ``target`` gets, if any.
    :param clobbers: registers whose values are unknown afterwards.
    :param signs: x30 is signed, or with ``authenticates`` what was signed is taken back.
    :param mask: bits of ``target`` that are set (``sets``) or cleared instead.
    """

    name: str
    event: str = ""
    operands: tuple[tuple[int, int] | str, ...] = ()
    source: str = ""
    target: str = ""
    clobbers: tuple[str, ...] = ()
    mask: int | None = None
    sets: bool = True
    signs: bool = False
    authenticates: bool = False


SYSTEM_REGISTERS = {
    (3, 0, 1, 0, 0): "sctlr_el1",
    (3, 0, 2, 0, 0): "ttbr0_el1",
    (3, 0, 2, 0, 1): "ttbr1_el1",
    (3, 0, 2, 0, 2): "tcr_el1",
    (3, 3, 0, 0, 1): "ctr_el0",
    (3, 3, 4, 2, 1): "daif",
    (3, 0, 4, 2, 2): "currentel",
    (3, 0, 4, 1, 0): "sp_el0",
    (3, 0, 13, 0, 4): "tpidr_el1",
    (3, 4, 12, 0, 0): "vbar_el2",
    (3, 4, 1, 0, 0): "sctlr_el2",
    (3, 4, 5, 2, 0): "esr_el2",
    (3, 4, 4, 0, 1): "elr_el2",
    (3, 4, 4, 0, 0): "spsr_el2",
}
"""D24.2 and C5.2: op0, op1, CRn, CRm, op2 of each register that the engine has."""

READ_ONLY = frozenset({"ctr_el0", "currentel"})

OPERATIONS = {
    (1, 0, 7, 6, 1): ("AArch64.DC(X[t], CacheType_Data, CacheOp_Invalidate, CacheOpScope_PoC)", "DC_IVAC"),
    (1, 3, 7, 10, 1): ("AArch64.DC(X[t], CacheType_Data, CacheOp_Clean, CacheOpScope_PoC)", "DC_CVAC"),
    (1, 3, 7, 14, 1): (
        "AArch64.DC(X[t], CacheType_Data, CacheOp_CleanInvalidate, CacheOpScope_PoC)",
        "DC_CIVAC",
    ),
    (1, 3, 7, 11, 1): ("AArch64.DC(X[t], CacheType_Data, CacheOp_Clean, CacheOpScope_PoU)", "DC_CVAU"),
    (1, 3, 7, 5, 1): ("AArch64.IC(X[t], CacheOpScope_PoU)", "IC_IVAU"),
    (1, 0, 7, 5, 0): ("AArch64.IC(CacheOpScope_ALLU)", "IC_IALLU"),
    (1, 0, 8, 7, 0): ("AArch64.TLBI_VMALL(Regime_EL10, Shareability_NSH)", "TLBI_VMALLE1"),
}
"""C5.3 to C5.5: cache and TLB maintenance; the DC operations and IC IVAU take an address."""

WITHOUT_ADDRESS = frozenset({"IC_IALLU", "TLBI_VMALLE1"})

# C6.2 and D8.8: hints of pointer authentication that change x16, x17 or x30 once it is enabled.
POINTER_AUTHENTICATION = frozenset({7, 8, 10, 12, 14, *range(24, 32)})

# C6.2: WFE and WFI. What they wait for is not modelled: they are effects that no function may have.
WAITING = frozenset({2, 3})

# C6.2.259 and C6.2.22: PACIASP and AUTIASP. The engine takes a signed address for an uninterpreted
# function of address and SP, which no CPU computes: they are checked by this table only.
SIGNING = {25: "AddPACIA(X[30], SP[])", 29: "AuthIA(X[30], SP[])"}
_EXCEPTION_RETURN = 0xD69F_03E0
_HYPERVISOR_CLOBBERS = tuple(f"x{i}" for i in range(18))  # SMCCC 1.0, 2.6


def fields(word: int) -> Fields | None:
    """Return the fields of ``word`` if it is of the class ``System``, else None."""
    if word >> 22 != 0b1101010100:
        return None
    return Fields(
        read=bool(word >> 21 & 1),
        op0=word >> 19 & 0b11,
        op1=word >> 16 & 0b111,
        crn=word >> 12 & 0xF,
        crm=word >> 8 & 0xF,
        op2=word >> 5 & 0b111,
        rt=word & 31,
    )


def is_system(word: int) -> bool:
    """Return whether Unicorn hides what ``word`` does: a system or an exception generating instruction."""
    return word >> 22 == 0b1101010100 or word >> 24 == 0b11010100 or word == _EXCEPTION_RETURN


def expected(word: int) -> Expected | None:
    """Return what ``word`` must do; None for a system instruction that this table does not have."""
    if word >> 24 == 0b11010100:
        return _exception(word)
    if word == _EXCEPTION_RETURN:
        return Expected("AArch64.ExceptionReturn")
    found = fields(word)
    if found is None:
        return None
    if found.op0 == 0:
        return None if found.read else _barrier_or_state(found)
    register = "xzr" if found.rt == _ZERO else f"x{found.rt}"
    if found.op0 == 1 and not found.read and found.register in OPERATIONS:
        name, event = OPERATIONS[found.register]
        return Expected(name, event, () if event in WITHOUT_ADDRESS else (register,))
    system = SYSTEM_REGISTERS.get(found.register)
    if system is None:
        return None
    if found.read:
        return Expected("AArch64.SysRegRead", source=system, target=register)
    if system in READ_ONLY:
        return None
    return Expected("AArch64.SysRegWrite", f"msr {system}", (register,), register, system)


def _exception(word: int) -> Expected | None:
    immediate = word >> 5 & 0xFFFF
    match word >> 21 & 0b111, word & 0b11111:
        case 0b000, 0b00010:
            return Expected(
                "AArch64.CallHypervisor", "CallHyperVisor", ((immediate, 16),), clobbers=_HYPERVISOR_CLOBBERS
            )
        case 0b001, 0b00000:
            return Expected("AArch64.SoftwareBreakpoint")
    return None


def _barrier_or_state(found: Fields) -> Expected | None:
    domain, types = (found.crm >> 2, 8), (found.crm & 0b11, 8)
    match found.op1, found.crn, found.op2, found.rt:
        case 3, 3, 0b100, 31:
            barrier = "DataSynchronizationBarrier"
            # CRm 0 and 4 are barriers of their own; without access types they complete nothing.
            name = {0: "SpeculativeStoreBypassBarrierToVA", 4: "SpeculativeStoreBypassBarrierToPA"}
            return Expected(name.get(found.crm, barrier), barrier, (domain, types, (0, 8)))
        case 3, 3, 0b001, 31 if found.crm & 0b11 == 0b10:
            every = (0b11, 8)
            return Expected(
                "DataSynchronizationBarrier", "DataSynchronizationBarrier", (domain, every, (1, 8))
            )
        case 3, 3, 0b101, 31:
            return Expected("DataMemoryBarrier", "DataMemoryBarrier", (domain, types))
        case 3, 3, 0b110, 31:
            event = "InstructionSynchronizationBarrier"
            return Expected(event, event)
        case 3, 2, _, 31:
            number = found.crm << 3 | found.op2
            if number in SIGNING:
                return Expected(SIGNING[number], signs=number == 25, authenticates=number == 29)
            return None if number in POINTER_AUTHENTICATION | WAITING else Expected("Hint_NOP")
        case 3, 4, (0b110 | 0b111), 31:
            # PSTATE.<D,A,I,F> are bits 9 to 6 of DAIF, the immediate's bits 3 to 0.
            return Expected(
                "PSTATE.<D,A,I,F>", "msr daif", target="daif", mask=found.crm << 6, sets=found.op2 == 0b110
            )
    return None
