"""Faults to seed into a relocation routine, each found by what its instruction means.

Numbers are those of the project's list of faults. 27 (moves of the hypervisor stub) and 30
to 39 (the C side) touch other functions and are not here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from kexec_verify.arm64.lift import Code, Instruction
from kexec_verify.kexec.abi_variant import AbiVariant

from . import encode as a64


@dataclass(frozen=True)
class Target:
    """A routine and its form, with ways to find instructions in it."""

    code: Code
    variant: AbiVariant

    def number(self, name: str) -> int:
        """The number of a register."""
        return int(name[1:])

    @property
    def instructions(self) -> list[Instruction]:
        """All of them, in order."""
        return [self.code.at(address) for address in self.code.addresses]

    def all(self, mask: int, value: int, after: int = 0) -> list[Instruction]:
        """Instructions whose masked word is ``value``, from address ``after`` on."""
        return [i for i in self.instructions if i.word & mask == value and i.address >= after]

    def one(self, mask: int, value: int, after: int = 0) -> Instruction:
        """The first of them."""
        found = self.all(mask, value, after)
        assert found, f"no instruction {value:#x} in {self.code.name}"
        return found[0]

    # By meaning

    @property
    def maintenance(self) -> Instruction:
        """The dc of the loop over lines: civac, or ivac with the MMU off."""
        return self.one(~0x1F, 0xD50B7E20) if self.variant.kimage else self.one(~0x1F, 0xD5087620)

    @property
    def after_loop(self) -> int:
        """Where the loop over the list is left to: the barrier before ``ic iallu``."""
        return self.ic.address - 4

    @property
    def ic(self) -> Instruction:
        return self.one(0xFFFFFFFF, 0xD508751F)

    @property
    def msr_sctlr(self) -> Instruction:
        return self.one(~0x1F, 0xD5181000)

    @property
    def hvc(self) -> Instruction:
        return self.one(0xFFFFFFFF, 0xD4000002)

    @property
    def start(self) -> int:
        """The register of start: the final branch goes there."""
        return a64.get(self.one(~0x3E0, 0xD61F0000).word, *a64.RN)

    def advance(self, register: int, amount: int) -> Instruction:
        """add Xr, Xr, #amount."""
        return self.one(0xFFFFFFFF, a64.add_immediate(register, register, amount))

    def final_move(self, register: int) -> Instruction:
        """The last move to a register: what the next kernel gets in it."""
        return self.all(0xFFE0FFFF, a64.mov(register, 0))[-1]

    def patched(self, *patches: tuple[Instruction, int]) -> Code:
        """The routine with instructions replaced by words."""
        code = self.code
        for instruction, word in patches:
            code = code.patched(instruction.address, word)
        return code

    def detoured(self, instruction: Instruction, *words: int) -> Code:
        """The routine with ``words`` in place of one instruction, behind its end and back."""
        code = self.code
        end = code.end
        back = a64.branch(end + 4 * len(words), instruction.address + 4)
        tail = b"".join(word.to_bytes(4, "little") for word in (*words, back))
        return Code(code.name, code.address, code.data + tail).patched(
            instruction.address, a64.branch(instruction.address, end)
        )


type Patch = Callable[[Target], Code]


@dataclass(frozen=True)
class Same:
    """The edit changes nothing that is claimed; ``well_formed_only``: of well-formed lists."""

    reason: str
    well_formed_only: bool = False


@dataclass(frozen=True)
class Mutant:
    """A fault.

    :param expected: properties that must all be refuted (others may be too).
    :param only: the form that has such an instruction, ``kimage`` or ``registers``; None for both.
    :param same: forms in which the edit changes nothing that is claimed.
    """

    number: int
    name: str
    patch: Patch
    expected: frozenset[str]
    only: str | None = None
    same: dict[str, Same] = field(default_factory=dict)

    def same_in(self, variant: AbiVariant) -> Same | None:
        """Why the edit changes nothing in this form, if so."""
        return self.same.get(variant.name)

    def __str__(self) -> str:
        return f"{self.number:02}-{self.name.replace(' ', '-')}"


MUTANTS: list[Mutant] = []


def mutant(
    number: int,
    name: str,
    *expected: str,
    only: str | None = None,
    kimage: Same | None = None,
    registers: Same | None = None,
) -> Callable[[Patch], Patch]:
    """Put a patch into the table."""

    def enter(patch: Patch) -> Patch:
        claims = frozenset(f"reloc-{claim}" for claim in expected)
        same = {
            variant: why for variant, why in (("kimage", kimage), ("registers", registers)) if why is not None
        }
        MUTANTS.append(Mutant(number, name, patch, claims, only, same))
        return patch

    return enter


# Cache maintenance


@mutant(1, "ivac for civac", "clean-to-poc", only="kimage")
def _(t: Target) -> Code:
    return t.patched((t.maintenance, 0xD5087620 | t.maintenance.word & 0x1F))


@mutant(2, "no maintenance", "clean-to-poc")
def _(t: Target) -> Code:
    return t.patched((t.maintenance, a64.NOP))


@mutant(3, "maintenance ends at P", "clean-to-poc")
def _(t: Target) -> Code:
    # add Xend, Xstart, #P: an immediate shifted by 12
    size = t.variant.page_size
    end = t.one(0xFFFFFC00, 0x91400000 | (size >> 12) << 10)
    return t.patched((end, a64.movz(a64.get(end.word, *a64.RD), size)))


@mutant(4, "line size doubled", "clean-to-poc")
def _(t: Target) -> Code:
    four = t.one(0x7FFFFFE0, 0x52800080)  # mov Xd or Wd, #4
    return t.patched((four, a64.field(four.word, 5, 16, 8)))


@mutant(5, "no dsb after the page's maintenance", "clean-to-poc")
def _(t: Target) -> Code:
    return t.patched((t.one(0xFFFFFFFF, 0xD5033F9F, t.maintenance.address), a64.NOP))


# Instruction cache and context


@mutant(6, "no ic iallu", "icache-invalid")
def _(t: Target) -> Code:
    return t.patched((t.ic, a64.NOP))


@mutant(
    7,
    "ic iallu before the first dsb",
    "icache-invalid",
    kimage=Same("each page ends with a dsb sy, and before the loop stands a dsb nsh: no store is unfinished"),
)
def _(t: Target) -> Code:
    dsb = t.code.at(t.after_loop)
    return t.patched((dsb, t.ic.word), (t.ic, dsb.word))


@mutant(8, "no isb after msr sctlr_el1", "context-synced", only="kimage")
def _(t: Target) -> Code:
    return t.patched((t.code.at(t.msr_sctlr.address + 4), a64.NOP))


def _sctlr_keeps(t: Target, bits: int) -> Code:
    low = (
        t.one(0xFF9FFFE0, 0xF2800000 | 0x800 << 5)
        if _has_low_movk(t)
        else t.one(0xFFFFFFE0, 0xD2800000 | 0x800 << 5)
    )
    return t.patched((low, low.word | bits << 5))


def _has_low_movk(t: Target) -> bool:
    return bool(t.all(0xFFFFFFE0, 0xF2800000 | 0x800 << 5))


@mutant(9, "SCTLR keeps C", "entry-state", only="kimage")
def _(t: Target) -> Code:
    return _sctlr_keeps(t, 1 << 2)


@mutant(10, "SCTLR keeps M", "entry-state", only="kimage")
def _(t: Target) -> Code:
    return _sctlr_keeps(t, 1 << 0)


# The list machine


@mutant(11, "dest not advanced", "step", "dest-pages")
def _(t: Target) -> Code:
    return t.patched((t.advance(t.number(t.variant.dest), 64), a64.NOP))


@mutant(12, "dest advanced twice", "step", "dest-pages")
def _(t: Target) -> Code:
    dest = t.number(t.variant.dest)
    return t.patched((t.advance(dest, 64), a64.add_immediate(dest, dest, 128)))


def _address_mask(t: Target) -> Instruction:
    """and Xaddr, Xentry, #~(P-1)"""
    field = a64.high_mask(t.variant.page_size.bit_length() - 1)
    return t.one(0xFFFFFFE0, 0x92000000 | field | t.number(t.variant.entry) << 5)


def _indirection(t: Target) -> Instruction:
    """mov Xptr, Xaddr"""
    addr = a64.get(_address_mask(t).word, *a64.RD)
    return t.one(0xFFFFFFFF, a64.mov(t.number(t.variant.ptr), addr))


@mutant(13, "INDIRECTION resets dest", "step", "memory-safe")
def _(t: Target) -> Code:
    move = _indirection(t)
    return t.detoured(move, move.word, a64.mov(t.number(t.variant.dest), a64.XZR))


@mutant(14, "ptr advances by 16", "step", "dest-pages")
def _(t: Target) -> Code:
    ptr, entry = t.number(t.variant.ptr), t.number(t.variant.entry)
    post_index = t.all(0xFFFFFFFF, 0xF8400400 | 8 << 12 | ptr << 5 | entry)
    if post_index:
        return t.patched((post_index[0], a64.field(post_index[0].word, 12, 9, 16)))
    return t.patched((t.advance(ptr, 8), a64.add_immediate(ptr, ptr, 16)))


@mutant(15, "address mask one bit short", "step", "memory-safe")
def _(t: Target) -> Code:
    mask = _address_mask(t)
    wider = a64.high_mask(t.variant.page_size.bit_length())
    return t.patched((mask, mask.word & ~0x7FFC00 | wider))


def _subtraction(t: Target) -> Instruction:
    """sub Xaddr, Xaddr, Xphys_offset"""
    mask = _address_mask(t)
    addr = a64.get(mask.word, *a64.RD)
    return t.one(0xFFE0FFFF, 0xCB000000 | addr << 5 | addr, mask.address)


@mutant(16, "phys_offset not subtracted", "memory-safe", "step", only="kimage")
def _(t: Target) -> Code:
    return t.patched((_subtraction(t), a64.NOP))


@mutant(17, "phys_offset added", "memory-safe", "step", only="kimage")
def _(t: Target) -> Code:
    return t.patched((_subtraction(t), _subtraction(t).word & ~(1 << 30)))


def _flag_tests(t: Target, bit: int) -> list[Instruction]:
    """Tests of a bit of the word: tbz, tbnz, or tst with a mask of one bit."""
    entry = t.number(t.variant.entry)
    branches = t.all(0xFEF8001F, 0x36000000 | bit << 19 | entry)
    return branches or t.all(0xFFFFFFFF, 0xF200001F | a64.one_bit(bit) | entry << 5)


def _testing(instruction: Instruction, bit: int) -> int:
    if instruction.word >> 25 & 0x3F == 0b011011:
        return a64.test_bit(instruction.word, bit)
    return instruction.word & ~0x7FFC00 | a64.one_bit(bit)


@mutant(18, "DONE tested on another bit", "step", "memory-safe")
def _(t: Target) -> Code:
    last = _flag_tests(t, 2)[-1]
    return t.patched((last, _testing(last, 4)))


_ALIKE = Same("source and destination are whole pages, and advance together")


@mutant(19, "copy ends on dest alignment", kimage=_ALIKE, registers=_ALIKE)
def _(t: Target) -> Code:
    mask = 1 << 22 | (t.variant.page_size.bit_length() - 2) << 10  # the lowest bits are 1
    test = t.one(0xFFFFFC1F, 0xF200001F | mask)
    return t.patched((test, a64.field(test.word, *a64.RN, t.number(t.variant.dest))))


def _pairs(t: Target, load: bool) -> list[Instruction]:
    """ldp, and stnp or stp, without write-back."""
    if load:
        return t.all(0xFFC00000, 0xA9400000)
    return t.all(0xFFC00000, 0xA8000000) or t.all(0xFFC00000, 0xA9000000)


@mutant(20, "a stnp at 32 for 48", "step", "dest-pages")
def _(t: Target) -> Code:
    last = next(i for i in _pairs(t, load=False) if a64.get(i.word, *a64.PAIR_OFFSET) == 6)
    return t.patched((last, a64.field(last.word, *a64.PAIR_OFFSET, 4)))


# Registers and arguments


@mutant(21, "a kimage field loaded after the loop", "memory-safe", "entry-state", only="kimage")
def _(t: Target) -> Code:
    assert t.variant.layout is not None
    move = t.final_move(0)
    if any(a64.get(i.word, *a64.RD) == 0 or a64.get(i.word, 10, 5) == 0 for i in _pairs(t, load=True)):
        # x0 is used up in the loop: keep the pointer where ptr is set to 0 in vain
        keep = t.one(0xFFFFFFFF, a64.mov(t.number(t.variant.ptr), a64.XZR))
        used = {int(name) for i in t.instructions for name in re.findall(r"\b[xw](\d+)\b", i.text)}
        spare = max(set(range(19, 30)) - used)
        load = a64.load(0, spare, t.variant.layout.dtb_mem)
        return t.patched((keep, a64.mov(spare, 0)), (move, load))
    return t.patched((move, a64.load(0, 0, t.variant.layout.dtb_mem)))


def _reused(t: Target, register: int) -> Code:
    """Another register as the first of a pair that is copied through."""
    pairs = [
        next(i for i in _pairs(t, load) if a64.get(i.word, *a64.PAIR_OFFSET) == 0) for load in (True, False)
    ]
    return t.patched(*((i, a64.field(i.word, *a64.RD, register)) for i in pairs))


@mutant(22, "the el2_vectors register is a copy temporary", "entry-state", only="kimage")
def _(t: Target) -> Code:
    test = t.one(0xFF000000, 0xB4000000, t.ic.address)  # cbz Xel2_vectors
    return _reused(t, a64.get(test.word, *a64.RD))


@mutant(23, "the start register is clobbered", "entry-state")
def _(t: Target) -> Code:
    return _reused(t, t.start)


@mutant(24, "x3 not zeroed", "entry-state")
def _(t: Target) -> Code:
    zero = t.all(0xFFE0FFFF, a64.mov(3, 0)) or t.all(0xFFFFFFFF, a64.movz(3, 0))
    return t.patched((zero[-1] if zero else t.final_move(3), a64.NOP))


@mutant(25, "x1 and x2 swapped before hvc", "entry-state", only="kimage")
def _(t: Target) -> Code:
    first, second = (
        t.one(0xFFE0FFFF, a64.mov(1, 0), t.msr_sctlr.address),
        t.one(0xFFE0FFFF, a64.mov(2, 0), t.msr_sctlr.address),
    )
    registers = [a64.get(i.word, *a64.RM) for i in (first, second)]
    return t.patched((first, a64.mov(1, registers[1])), (second, a64.mov(2, registers[0])))


@mutant(26, "wrong HVC number", "entry-state", only="kimage")
def _(t: Target) -> Code:
    return t.patched((t.one(0xFFFFFFFF, a64.movz(0, 1), t.msr_sctlr.address), a64.movz(0, 2)))


# Effects outside of the copy


@mutant(41, "maintenance goes on past the page", "memory-safe", only="kimage")
def _(t: Target) -> Code:
    size = t.variant.page_size >> 12
    end = t.one(0xFFFFFC00, 0x91400000 | size << 10)  # add Xend, Xstart, #P
    return t.patched((end, a64.field(end.word, 10, 12, 2 * size)))


@mutant(42, "words are copied after the loop", "memory-safe", "dest-pages")
def _(t: Target) -> Code:
    # The loop tests first: no path that leaves it goes through its body.
    used = {int(name) for i in t.instructions for name in re.findall(r"\b[xw](\d+)\b", i.text)}
    source, dest, end, word = sorted(set(range(30)) - used)[-4:]
    ptr = t.number(t.variant.ptr)
    return t.detoured(
        t.code.at(t.after_loop),
        a64.and_mask(source, ptr, a64.high_mask(6)),
        a64.add_immediate(dest, source, 64),
        a64.add_immediate(end, source, 16),
        a64.compare(source, end),
        a64.branch_if_not_below(16),
        a64.load_and_advance(word, source),
        a64.store_and_advance(word, dest),
        a64.branch(16, 0),
        t.code.at(t.after_loop).word,
    )


# What takes a peculiar list or place of memory to show


@mutant(43, "el2_vectors tested in 32 bits", "entry-state", only="kimage")
def _(t: Target) -> Code:
    test = t.one(0xFF000000, 0xB4000000, t.ic.address)  # cbz Xel2_vectors
    return t.patched((test, test.word & ~(1 << 31)))


@mutant(44, "SCTLR from the pointer", "entry-state", only="kimage")
def _(t: Target) -> Code:
    # The pointer has bits 0 and 2 clear, so MMU and cache go off; EE hangs on where the list lies.
    return t.patched((t.msr_sctlr, a64.field(t.msr_sctlr.word, *a64.RD, t.number(t.variant.ptr))))


@mutant(45, "address mask loses the top bits", "step", "memory-safe")
def _(t: Target) -> Code:
    mask, low = _address_mask(t), t.variant.page_size.bit_length() - 1
    narrower = 1 << 22 | 64 - low << 16 | 61 - low << 10  # bits low to 61
    return t.patched((mask, mask.word & ~0x7FFC00 | narrower))


# Tables


@mutant(28, "break-before-make without the zero page", "break-before-make", only="kimage")
def _(t: Target) -> Code:
    return t.patched((t.one(~0x1F, 0xD5182020), a64.NOP))


@mutant(29, "no tlbi", "break-before-make", only="kimage")
def _(t: Target) -> Code:
    return t.patched((t.one(0xFFFFFFFF, 0xD508871F), a64.NOP))


_ONE_FLAG = Same("a word has one flag (W2)", well_formed_only=True)


@mutant(40, "flag tests permuted", kimage=_ONE_FLAG, registers=_ONE_FLAG)
def _(t: Target) -> Code:
    # INDIRECTION and DESTINATION change places, with what each does.
    ptr, dest = t.number(t.variant.ptr), t.number(t.variant.dest)
    indirection, destination = _flag_tests(t, 1)[0], _flag_tests(t, 0)[0]
    to_ptr = _indirection(t)
    addr = a64.get(to_ptr.word, *a64.RM)
    patches = [(indirection, _testing(indirection, 0)), (destination, _testing(destination, 1))]
    patches.append((to_ptr, a64.mov(dest, addr)))
    moves = t.all(0xFFFFFFFF, a64.mov(dest, addr))
    if moves:
        return t.patched(*patches, (moves[0], a64.mov(ptr, addr)))
    select = t.one(0xFFFFFFFF, 0x9A801000 | dest << 16 | addr << 5 | dest)  # csel Xdest, Xaddr, Xdest, ne
    return t.patched(*patches, (select, a64.field(a64.field(select.word, *a64.RD, ptr), *a64.RM, ptr)))
