"""The meaning of each instruction that the corpus uses, against Unicorn, on random states."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import unicorn
from kexec_verify.arm64.cache import Lines
from kexec_verify.arm64.execute import execute
from kexec_verify.arm64.lift import Code, decode
from kexec_verify.arm64.state import FLAGS, GENERAL, State, unknown_ghosts, unknown_registers
from kexec_verify.kexec.locate import find_routine
from kexec_verify.logic import Term, const, constant
from kexec_verify.memory import Memory
from kexec_verify.target import open_target
from unicorn import arm64_const as uc

BINARIES = Path(__file__).resolve().parents[3] / "binaries"
CODE, DATA, DATA_END = 0x1000, 0x2_0000, 0x2_2000
MIDDLE = (DATA + DATA_END) // 2
REGISTERS = [getattr(uc, f"UC_ARM64_REG_{name.upper()}") for name in (*GENERAL, "sp")]
VECTORS = 4
EDGES = (0, 1, 0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000, 0xFFFF_FFFF_FFFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
SYSTEM = ("mrs", "msr", "isb", "dsb", "tlbi", "dc", "ic", "hvc")
# Not in the corpus, but in Debian's kernels or easily in a compiler's output.
OTHERS = {
    "mov x0, x1, via orr w": 0x2A0103E0,
    "csinc x0, x1, x2, lt": 0x9A82B420,
    "cset x0, hi": 0x9A9F97E0,
    "ccmp x0, x1, #4, ne": 0xFA411004,
    "ccmp x0, #3, #0, eq": 0xFA430800,
    "adds x0, x1, x2": 0xAB020020,
    "subs x0, x1, #1": 0xF1000420,
    "cmp w0, w1": 0x6B01001F,
    "ldp x0, x1, [x2], #16": 0xA8C10440,
    "ldp x0, x1, [x2, #16]!": 0xA9C10440,
    "stp x0, x1, [x2, #-16]!": 0xA9BF0440,
    "str x0, [x1], #8": 0xF8008420,
    "ldr x0, [x1, #8]!": 0xF8408C20,
    "ldnp x0, x1, [x2]": 0xA8400440,
    "adr x0, .+8": 0x10000040,
    "adrp x0, .": 0x90000000,
    "movn x3, #0x1234": 0x92824683,
    "eor x0, x1, x2, ror #7": 0xCAC21C20,
    "lsr x0, x1, x2": 0x9AC22420,
    "asr w0, w1, w2": 0x1AC22820,
    "sxtw x0, w1": 0x93407C20,
    "sub sp, sp, #0x20": 0xD10083FF,
}


class Bytes(Memory):
    """Memory whose words are constants."""

    def __init__(self, words: dict[int, int]):
        super().__init__()
        self.words = words

    def _read(self, address: Term) -> Term:
        return const(self.words[constant(address)])


def corpus_words() -> dict[int, str]:
    found: dict[int, str] = {}
    for path in sorted(BINARIES.glob("*.elf")):
        routine = find_routine(open_target(str(path)))
        code = Code(routine.name, routine.address, routine.code)
        for address in code.addresses:
            instruction = code.at(address)
            found.setdefault(instruction.word, instruction.text)
    return found


def vectors(word: int) -> list[tuple[list[int], int]]:
    """Registers x0-x30 and sp, and NZCV; the base register of an access points into the data."""
    rng = random.Random(word)
    found = []
    for _ in range(VECTORS):
        values = [rng.choice((rng.getrandbits(64), rng.choice(EDGES))) for _ in range(31)]
        values.append(MIDDLE)
        if word & 0x0A000000 == 0x08000000:  # a load or store
            values[word >> 5 & 31] = MIDDLE + 8 * rng.randrange(-32, 32)
        if word & 0xFFFFFC1F == 0xD61F0000:  # br: to an aligned address
            values[word >> 5 & 31] = CODE + 4 * rng.randrange(1, 1000)
        found.append((values, rng.getrandbits(4)))
    return found


def words_of_data(word: int) -> dict[int, int]:
    rng = random.Random(word + 1)
    return {address: rng.getrandbits(64) for address in range(DATA, DATA_END, 8)}


def modelled(word: int, values: list[int], nzcv: int, data: dict[int, int]) -> tuple:
    registers = unknown_registers("in")
    registers |= {name: const(value) for name, value in zip((*GENERAL, "sp"), values, strict=True)}
    registers |= {flag: const(nzcv >> (3 - i) & 1, 8) for i, flag in enumerate(FLAGS)}
    (step,) = execute(decode(word, CODE), State(registers, unknown_ghosts("in"), Bytes(data), Lines("in")))
    after = step.state
    stored = [access.address for access in after.accesses if access.kind == "store"]
    stores = {constant(address): constant(after.memory.read(address)) for address in stored}
    flags = [constant(after.registers[flag]) for flag in FLAGS]
    target = step.then if isinstance(step.then, int) else constant(step.then.target)
    return [constant(after.registers[name]) for name in (*GENERAL, "sp")], flags, {**data, **stores}, target


def simulated(word: int, values: list[int], nzcv: int, data: dict[int, int]) -> tuple:
    machine = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
    machine.mem_map(CODE & ~0xFFF, 0x1000)
    machine.mem_write(CODE, word.to_bytes(4, "little"))
    machine.mem_map(DATA, DATA_END - DATA)
    machine.mem_write(DATA, b"".join(value.to_bytes(8, "little") for value in data.values()))
    for register, value in zip(REGISTERS, values, strict=True):
        machine.reg_write(register, value)
    machine.reg_write(uc.UC_ARM64_REG_NZCV, nzcv << 28)
    try:
        machine.emu_start(CODE, 1 << 63, count=1)
    except unicorn.UcError as error:  # the target of a branch is not mapped
        if error.errno != unicorn.UC_ERR_FETCH_UNMAPPED or machine.reg_read(uc.UC_ARM64_REG_PC) == CODE:
            raise
    raw = bytes(machine.mem_read(DATA, DATA_END - DATA))
    after = {DATA + i: int.from_bytes(raw[i : i + 8], "little") for i in range(0, len(raw), 8)}
    flags = machine.reg_read(uc.UC_ARM64_REG_NZCV) >> 28
    return (
        [machine.reg_read(register) for register in REGISTERS],
        [flags >> 3 & 1, flags >> 2 & 1, flags >> 1 & 1, flags & 1],
        after,
        machine.reg_read(uc.UC_ARM64_REG_PC),
    )


def disagreements(words: dict[int, str]) -> list[str]:
    found = []
    for word, text in words.items():
        for values, nzcv in vectors(word):
            data = words_of_data(word)
            if modelled(word, values, nzcv, data) != simulated(word, values, nzcv, data):
                found.append(f"{word:#010x} {text} nzcv={nzcv:#x} {[hex(v) for v in values]}")
    return found


def test_corpus_has_instructions_of_every_kind():
    words = corpus_words()
    compared = [text for text in words.values() if not text.startswith(SYSTEM)]
    assert len(compared) > 200
    mnemonics = {text.split()[0] for text in compared}
    assert {"ldp", "stnp", "stp", "ldr", "tst", "cmp", "cmn", "csel", "ubfx", "lsl"} <= mnemonics
    assert {"bic", "movk", "neg", "tbz", "tbnz", "cbz", "br"} <= mnemonics


def test_corpus_instructions_mean_what_unicorn_does():
    words = {w: t for w, t in corpus_words().items() if not t.startswith(SYSTEM)}
    assert disagreements(words) == []


@pytest.mark.parametrize("text", OTHERS)
def test_compilers_other_instructions_mean_what_unicorn_does(text):
    assert disagreements({OTHERS[text]: text}) == []
