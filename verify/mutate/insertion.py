"""Mutate a function by one harmful instruction, in place of another or between two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kexec_verify.arm64.lift import SIZE

type Words = tuple[tuple[int, str], ...]

HARMFUL: Words = (
    (0xD518_101F, "msr sctlr_el1, xzr"),
    (0xD518_201F, "msr ttbr0_el1, xzr"),
    (0xD518_203F, "msr ttbr1_el1, xzr"),
    (0xD518_205F, "msr tcr_el1, xzr"),
    (0xD518_A21F, "msr mair_el1, xzr"),
    (0xD518_C01F, "msr vbar_el1, xzr"),
    (0xD518_D09F, "msr tpidr_el1, xzr"),
    (0xD518_411F, "msr sp_el0, xzr"),
    (0xD518_403F, "msr elr_el1, xzr"),
    (0xD518_401F, "msr spsr_el1, xzr"),
    (0xD518_105F, "msr cpacr_el1, xzr"),
    (0xD510_025F, "msr mdscr_el1, xzr"),
    (0xD518_E11F, "msr cntkctl_el1, xzr"),
    (0xD51C_111F, "msr hcr_el2, xzr"),
    (0xD51C_C000, "msr vbar_el2, x0"),
    (0xD51C_101F, "msr sctlr_el2, xzr"),
    (0xD51C_201F, "msr ttbr0_el2, xzr"),
    (0xD51C_205F, "msr tcr_el2, xzr"),
    (0xD51C_4020, "msr elr_el2, x0"),
    (0xD51C_4000, "msr spsr_el2, x0"),
    (0xD51C_4100, "msr sp_el1, x0"),
    (0xD51C_D05F, "msr tpidr_el2, xzr"),
    (0xD51E_111F, "msr scr_el3, xzr"),
    (0xD53C_1100, "mrs x0, hcr_el2"),
    (0xD53C_2001, "mrs x1, ttbr0_el2"),
    (0xD538_5202, "mrs x2, esr_el1"),
    (0xD538_4103, "mrs x3, sp_el0"),
    (0xD500_40BF, "msr spsel, #0"),
    (0xD503_4FFF, "msr daifclr, #15"),
    (0xD503_42FF, "msr daifclr, #2"),
    (0xD503_4FDF, "msr daifset, #15"),
    (0xD500_419F, "msr pan, #1"),
    (0xD400_0002, "hvc #0"),
    (0xD400_0003, "smc #0"),
    (0xD400_0001, "svc #0"),
    (0xD421_0000, "brk #0x800"),
    (0xD440_0000, "hlt #0"),
    (0x0000_0000, "udf #0"),
    (0xD503_207F, "wfi"),
    (0xD503_205F, "wfe"),
    (0xD69F_03E0, "eret"),
    (0xD65F_03C0, "ret"),
    (0xD61F_0000, "br x0"),
    (0xD61F_03E0, "br xzr"),
    (0x1400_0000, "b #0"),
    (0xD508_7620, "dc ivac, x0"),
    (0xD508_763F, "dc ivac, xzr"),
    (0xD50B_7B3F, "dc cvau, xzr"),
    (0xD50B_7E3F, "dc civac, xzr"),
    (0xD50B_7420, "dc zva, x0"),
    (0xD50B_743F, "dc zva, xzr"),
    (0xD50B_753F, "ic ivau, xzr"),
    (0xD508_751F, "ic iallu"),
    (0xD508_7800, "at s1e1r, x0"),
    (0xD50C_7880, "at s12e1r, x0"),
    (0xD508_871F, "tlbi vmalle1"),
    (0xD50C_871F, "tlbi alle2"),
    (0xD508_8320, "tlbi vae1is, x0"),
    (0xD503_3E3F, "dsb synxs"),
    (0xD503_3F5F, "clrex"),
    (0x9100_001F, "mov sp, x0"),
    (0x9100_03DF, "mov sp, x30"),
    (0x9100_23FF, "add sp, sp, #8"),
    (0xD101_03FF, "sub sp, sp, #64"),
    (0xF940_0000, "ldr x0, [x0]"),
    (0xF940_03E0, "ldr x0, [sp]"),
    (0xF81F_0FE0, "str x0, [sp, #-16]!"),
    (0xF900_001F, "str xzr, [x0]"),
    (0xF940_03DF, "ldr xzr, [x30]"),
    (0xF900_013F, "str xzr, [x9]"),
    (0xF840_0801, "ldtr x1, [x0]"),
    (0xF800_081F, "sttr xzr, [x0]"),
    (0xC85F_7C01, "ldxr x1, [x0]"),
    (0x5800_0000, "ldr x0, #0"),
    (0x9E67_03E0, "fmov d0, xzr"),
    (0xD6BF_03E0, "drps"),
)
"""Instructions that a function of kexec must not execute, or only at some places: word and text."""

_MOV = 0xD280_0B40  # movz x0, #90
_REGISTERS = 31


def spoils() -> Words:
    """Return, for each of x0 to x30, an instruction that overwrites it."""
    return tuple((_MOV | i, f"movz x{i}, #90") for i in range(_REGISTERS))


def insertions(code: bytes, slots: Sequence[int] | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield every mutant in which one instruction is replaced by one of ``HARMFUL`` or ``spoils``.

    :param slots: offsets of the instructions to replace; None for all.
    :returns: pairs of the change in words and the changed bytes, in a fixed order.
    """
    for slot in range(0, len(code), SIZE) if slots is None else slots:
        for word, text in (*HARMFUL, *spoils()):
            changed = code[:slot] + word.to_bytes(SIZE, "little") + code[slot + SIZE :]
            if changed != code:
                yield f"+{slot:#x}: {text}", changed


def additions(code: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield every mutant with one of ``HARMFUL`` inserted before an instruction; none is lost.

    The instructions after it move, and each branch still goes to its old target. A branch to the instruction
    itself goes to the new one. Code that reads its own bytes is not corrected.

    The instructions behind it move, and each branch still goes to where it went; a branch to
    the instruction itself goes to the new one. Code that reads its own bytes is not mended.

    :returns: as ``insertions``; the bytes are one instruction longer.
    """
    for slot in range(0, len(code), SIZE):
        moved = [_moved(code, at, slot) for at in range(0, len(code), SIZE)]
        for word, text in HARMFUL:
            words = [*moved[: slot // SIZE], word, *moved[slot // SIZE :]]
            yield f"before +{slot:#x}: {text}", b"".join(w.to_bytes(SIZE, "little") for w in words)


# Branches with an offset in words (Arm ARM, C4.1.94): mask, value, lowest bit and width of the offset.
_BRANCHES = (
    (0x7C00_0000, 0x1400_0000, 0, 26),  # b, bl
    (0xFF00_0010, 0x5400_0000, 5, 19),  # b.cond
    (0x7E00_0000, 0x3400_0000, 5, 19),  # cbz, cbnz
    (0x7E00_0000, 0x3600_0000, 5, 14),  # tbz, tbnz
)


def _moved(code: bytes, at: int, slot: int) -> int:
    """Return the word at ``at`` with its branch corrected, once all words from ``slot`` on have moved by
    one.
    """
    word = int.from_bytes(code[at : at + SIZE], "little")
    for mask, value, low, width in _BRANCHES:
        if word & mask != value:
            continue
        offset = word >> low & (1 << width) - 1
        offset -= (offset >> width - 1) << width
        target = at + SIZE * offset
        now = offset + (target > slot) - (at >= slot)
        field = (1 << width) - 1 << low
        return word & ~field | (now & (1 << width) - 1) << low
    return word
