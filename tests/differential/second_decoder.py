"""LLVM's disassembler as a second decoder, and what can be compared of it with ours."""

from __future__ import annotations

import itertools
import random
import re
import subprocess
from collections.abc import Iterator, Sequence

from kexec_verify.arm64.base import is_vector
from kexec_verify.arm64.legality import illegal, lowest_el, unprivileged
from kexec_verify.arm64.lift import SIZE, Instruction, decode
from kexec_verify.arm64.signed_loads import loads_signed_to_w
from kexec_verify.arm64.state import SYSTEM
from kexec_verify.errors import UnsupportedError

AT = 0x1000_0000
_BATCH = 50_000


def llvm(words: Sequence[int], features: str = "-neon,-fp-armv8,+el3") -> list[str | None]:
    """Each word as LLVM prints it for Armv8.0-A; None for what it does not know.

    What it calls potentially undefined counts as unknown. So do its generic forms of system
    instructions, which stand for any bits.
    """
    found: list[str | None] = []
    for start in range(0, len(words), _BATCH):
        found += _batch(words[start : start + _BATCH], features)
    return found


def _batch(words: Sequence[int], features: str) -> list[str | None]:
    lines = [",".join(f"0x{byte:02x}" for byte in word.to_bytes(4, "little")) for word in words]
    command = ["llvm-mc", "-disassemble", "-triple=aarch64", f"-mattr={features}"]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)
    invalid, doubtful = set(), set()
    for index, what in re.findall(r"^<stdin>:(\d+):\d+: warning: (\w+)", done.stderr, re.MULTILINE):
        (invalid if what == "invalid" else doubtful).add(int(index) - 1)
    texts = iter([line.strip() for line in done.stdout.splitlines() if line.strip() not in ("", ".text")])
    found: list[str | None] = []
    for index in range(len(words)):
        if index in invalid:
            found.append(None)
            continue
        text = next(texts).replace("\t", " ")
        generic = text.startswith(("sys ", "sysl ")) or re.search(r"\bS0_\d_C", text)
        found.append(None if index in doubtful or generic else text)
    assert next(texts, None) is None, "LLVM printed another number of instructions than it was given"
    return found


def structured(seed: int, places: int = 64) -> Iterator[int]:
    """Every value of bits 31 to 21, with values of bits 15 to 10 and register numbers.

    :param places: how many of the 64 values of bits 15 to 10 are tried.
    """
    rng = random.Random(seed)
    for top in range(1 << 11):
        if is_vector(top << 21):
            continue  # they are refused as a whole
        for place, third in itertools.product(rng.sample(range(64), places), (0, 31, 2)):
            base, first = rng.choice((0, 1, 31)), rng.choice((2, 3, 31))
            yield top << 21 | third << 16 | place << 10 | base << 5 | first


def system_space(step: int = 1) -> Iterator[int]:
    """Every system instruction (L, op0, op1, CRn, CRm, op2), with Rt 31 and with a register."""
    for index in range(0, 1 << 17, step):
        yield 0xD500_0000 | index << 5 | 31
        yield 0xD500_0000 | index << 5 | 5


def exceptions_and_branches() -> Iterator[int]:
    """Exception generation and branches to a register, all of their fields but immediates and Rn."""
    for opcode, low in itertools.product(range(8), range(32)):
        yield 0xD400_0000 | opcode << 21 | low
    for opcode, second, third, low in itertools.product(range(16), (0, 30, 31), range(64), (0, 1, 16, 31)):
        yield 0xD600_0000 | opcode << 21 | second << 16 | third << 10 | 3 << 5 | low
        yield 0xD600_0000 | opcode << 21 | second << 16 | third << 10 | 31 << 5 | low


def random_words(seed: int, count: int) -> Iterator[int]:
    """Any words but those of floating point and SIMD."""
    rng = random.Random(seed)
    found = 0
    while found < count:
        word = rng.getrandbits(32)
        if not is_vector(word):
            found += 1
            yield word


def ours(word: int) -> Instruction | None:
    """What our decoder accepts ``word`` as; None for what it refuses, or the engine for its register."""
    if illegal(word):
        return None  # decode refuses the same, but lifts first
    try:
        instruction = decode(word, AT)
    except UnsupportedError:
        return None
    finally:
        decode.cache_clear()
    register = system_register(instruction)
    return None if register is not None and register not in SYSTEM else instruction


def system_register(instruction: Instruction) -> str | None:
    """The register of an MRS or MSR, as SLEIGH names it; None of any other instruction."""
    if instruction.word >> 20 & 0xFFD != 0xD51:
        return None
    operands = instruction.text.split(" ", 1)[1]
    named = operands.rsplit(", ", 1)[-1] if instruction.word >> 21 & 1 else operands.split(", ")[0]
    return named.lower()


# Names of SLEIGH and LLVM for one instruction: aliases that one of them prefers.
ALIASES = {
    ("b.cc", "b.lo"),
    ("b.cs", "b.hs"),
    ("bfm", "bfi"),
    ("mov", "movn"),
    ("mov", "movz"),
    ("mov", "orr"),
    ("orr", "mov"),
    ("negs", "cmp"),
}

_SIZES = {"b": 1, "sb": 1, "h": 2, "sh": 2, "sw": 4}
_ACCESS = re.compile(
    r"(?P<kind>ld|st)(?P<ordered>ar|lr)?(?P<pair>n?p)?(?P<way>ur|tr|r)?(?P<size>sb|sh|sw|b|h)? (?P<first>\w)"
)
_BRANCHES = {"b", "bl", "cbz", "cbnz", "tbz", "tbnz"}


def is_hint(word: int) -> bool:
    """Whether ``word`` is in the space of hints, whose names hang on extensions."""
    return word & 0xFFFF_F01F == 0xD503_201F


def names_hint(instruction: Instruction, theirs: str | None) -> bool:
    """Whether both have the same name for a hint that does something."""
    return theirs is not None and instruction.text.split(" ")[0] == theirs.split(" ")[0]


def is_load_of_its_base(word: int) -> bool:
    """Whether ``word`` is an LDTR* whose target is its base.

    LLVM calls these potentially undefined, as if they wrote the base back. They do not, and no
    section of C6.2 that describes an LDTR* has a CONSTRAINED UNPREDICTABLE case.
    """
    return unprivileged(word) and word & 31 == word >> 5 & 31


def disagreement(instruction: Instruction, theirs: str | None) -> str | None:
    """What LLVM sees otherwise than our decoder, in words; None if nothing that can be compared.

    Compared are whether there is such an instruction, its name, and of its p-code: which accesses of
    memory it makes, of how many bytes, extended how, what is written back, where it branches.
    """
    shown = f"{instruction.word:#010x}: {instruction.text!r}, LLVM has {theirs!r}"
    if is_hint(instruction.word):
        return None if not instruction.operations or names_hint(instruction, theirs) else f"{shown}: it acts"
    if theirs is None and is_load_of_its_base(instruction.word):
        return None
    if theirs is None:
        return f"{shown}: it is no instruction of Armv8.0-A there"
    names = instruction.text.split(" ")[0], theirs.split(" ")[0]
    if names[0] != names[1] and names not in ALIASES:
        return f"{shown}: another name"
    register = system_register(instruction)
    if register is not None and register not in theirs.lower():
        return f"{shown}: another register"
    found = _memory(instruction, theirs) or _branch(instruction, theirs)
    return f"{shown}: {found}" if found else None


def _memory(instruction: Instruction, theirs: str) -> str | None:
    loads = [op.output.size for op in instruction.operations if op.opcode.name == "LOAD"]
    stores = [op.inputs[2].size for op in instruction.operations if op.opcode.name == "STORE"]
    match = _ACCESS.match(theirs)
    if match is None:
        return "it accesses memory" if loads or stores else None
    width = 8 if match["first"] == "x" else 4
    size = _SIZES.get(match["size"] or ("sw" if "psw" in theirs.split(" ")[0] else ""), width)
    count = 2 if match["pair"] else 1
    expected = ([size] * count, []) if match["kind"] == "ld" else ([], [size] * count)
    if (loads, stores) != expected:
        return f"expected accesses of {expected} bytes, found {(loads, stores)}"
    if unprivileged(instruction.word) != (match["way"] == "tr"):
        return "expected EL0's permissions of ldtr and sttr alone"
    signed = match["kind"] == "ld" and theirs.split(" ")[0].endswith(("sb", "sh", "sw"))
    # To a W register the engine extends by its own rule, which is compared with Unicorn.
    if not loads_signed_to_w(instruction.word) and signed != ("INT_SEXT" in _of_loaded(instruction)):
        return "another extension of what is loaded"
    base = re.search(r"\[(\w+)", theirs)
    back = base is not None and re.search(r"\]!|\], ", theirs) is not None
    written = {
        op.output.getRegisterName()
        for op in instruction.operations
        if op.output is not None and op.output.space.name == "register"
    }
    transferred = set(re.findall(r"\b[xw]\d+|\b[xw]zr", theirs.split("[")[0]))
    expected_written = {"x" + name[1:] for name in transferred} if match["kind"] == "ld" else set()
    if back and base is not None:
        expected_written.add(base[1])
    written = {"x" + name[1:] if name[0] == "w" else name for name in written} - {"xzr", "wzr"}
    if written != expected_written - {"xzr", "wzr"}:
        return f"expected writes of {sorted(expected_written)}, found {sorted(written)}"
    return None


def _of_loaded(instruction: Instruction) -> list[str]:
    """Names of the operations behind the first load."""
    names = instruction.opcodes
    return names[names.index("LOAD") :] if "LOAD" in names else []


def _branch(instruction: Instruction, theirs: str) -> str | None:
    kinds = {"BRANCH", "CBRANCH", "CALL", "BRANCHIND", "CALLIND", "RETURN"}
    name = theirs.split(" ")[0]
    direct = name in _BRANCHES or name.startswith("b.")
    goes = [
        op for op in instruction.operations if op.opcode.name in kinds and op.inputs[0].space.name != "const"
    ]
    if not direct:
        # A condition inside of an instruction is a branch to the next one.
        goes = [op for op in goes if op.opcode.name != "CBRANCH" or op.inputs[0].offset != AT + SIZE]
        leaves = {"br": "BRANCHIND", "blr": "CALLIND", "ret": "RETURN"}.get(name)
        if name in ("eret", "brk", "hlt"):
            return None  # they end a path by what they are, not by where they go
        return (
            None
            if [op.opcode.name for op in goes] == ([leaves] if leaves else [])
            else "another way to leave"
        )
    offset = int(theirs.rsplit("#", 1)[1], 0)
    targets = {int(op.inputs[0].offset) for op in goes}
    return None if targets == {AT + offset} else f"expected a branch by {offset:#x}, found {goes}"


def level_of(theirs: str) -> int | None:
    """The lowest exception level of what LLVM names, by the name; None where it does not say."""
    text = theirs.upper()
    special = {"SP_EL0": 1, "SP_EL1": 2, "SP_EL2": 3, "DBGVCR32_EL2": 2}
    match = re.search(r"\b(\w+?)_EL(12|02|0|1|2|3)\b", text)
    if match and text.startswith(("MSR", "MRS")):
        if match[0] in special:
            return special[match[0]]
        if match[1].startswith("CNTPS"):
            return 3  # of Secure EL1
        return {"12": 2, "02": 2}.get(match[2], int(match[2]) if len(match[2]) == 1 else None)
    match = re.match(r"(?:TLBI \w+?|AT S1|AT S12)E([0123])", text)
    if match:
        combined = text.startswith(("TLBI ALLE", "TLBI VMALLS12", "TLBI IPAS2", "TLBI RIPAS2", "AT S12"))
        return max(2, int(match[1])) if combined else max(1, int(match[1]))
    return None


def levels(word: int, theirs: str) -> str | None:
    """Where our lowest exception level is another than the one in LLVM's name; None if it agrees."""
    named = level_of(theirs)
    found = lowest_el(word)
    return None if named is None or named == found else f"{word:#010x}: LLVM has {theirs!r}, found EL{found}"
