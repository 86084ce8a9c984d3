"""What the engine executes is what LLVM's decoder takes for an instruction of the base architecture.

LLVM knows Armv8.0-A alone here, so an encoding that needs an extension is none to it: it calls it
invalid, or falls back on a system instruction without a name.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from tests.conftest import missing
from verify.arm64.execute import execute
from verify.arm64.legality import lowest_el, unprivileged
from verify.arm64.lift import Instruction, decode
from verify.arm64.system import FREE, MEANING
from verify.errors import UnsupportedError
from verify.logic import Term, var
from verify.memory import Memory, Unknown
from verify.symbolic.loops import generic_state

_BRANCHES = re.compile(r"(b|bl|br|blr|ret|cbz|cbnz|tbz|tbnz|b\..*|brk|eret|drps)$")
_SYSTEM = (
    "msr",
    "mrs",
    "sys",
    "dsb",
    "dmb",
    "isb",
    "dc",
    "ic",
    "at",
    "tlbi",
    "hvc",
    "clrex",
    "ssbb",
    "pssbb",
    "hint",
)
# Of unnamed system registers and operations LLVM prints the fields of the encoding.
_UNNAMED = re.compile(r"(sysl?\s|.*\bs\d_\d_c\d+_c\d+_\d)", re.IGNORECASE)


class AnyWord(Unknown):
    """Memory that answers every access with an unknown value."""

    def load(self, address: Term, size: int) -> Term:
        return var("loaded", 8 * size)

    def store(self, address: Term, value: Term) -> Memory:
        return self


STATE = replace(generic_state(), memory=AnyWord("M"))


def executed(word: int) -> Instruction | None:
    """The instruction, if the engine executes it and some rule may allow what it does."""
    try:
        instruction = decode.__wrapped__(word, 0x1000)
        steps = list(execute(instruction, STATE))
    except UnsupportedError:
        return None
    names = {event.name for step in steps for event in step.state.events}
    owned = (
        FREE | set(MEANING) | {"msr daif", "msr sctlr_el1", "msr ttbr0_el1", "msr ttbr1_el1", "msr tcr_el1"}
    )
    return instruction if names <= owned else None


def by_llvm(words: Sequence[int]) -> list[str | None]:
    """Each word as LLVM prints it, None where it is no instruction of Armv8.0-A."""
    bytes_of = (" ".join(f"{byte:#04x}" for byte in word.to_bytes(4, "little")) for word in words)
    command = ["llvm-mc", "-disassemble", "-triple=aarch64", "-mattr=-all,+v8a"]
    done = subprocess.run(
        command, input="\n".join(bytes_of) + "\n", capture_output=True, text=True, check=False
    )
    invalid = {int(n) - 1 for n in re.findall(r"<stdin>:(\d+):\d+: warning: invalid", done.stderr)}
    lines = iter(
        line.strip() for line in done.stdout.splitlines() if line.startswith("\t") and ".text" not in line
    )
    return [None if index in invalid else next(lines) for index in range(len(words))]


def kind(instruction: Instruction) -> str:
    opcodes = set(instruction.opcodes)
    if instruction.is_system:
        return "system"
    if (
        opcodes & {"BRANCH", "CBRANCH", "CALL", "CALLIND", "BRANCHIND", "RETURN"}
        and instruction.word >> 26 & 7 == 5
    ):
        return "branch"
    return "store" if "STORE" in opcodes else "load" if "LOAD" in opcodes else "data"


def kind_by_llvm(text: str) -> str:
    mnemonic = text.split()[0]
    if _BRANCHES.match(mnemonic):
        return "branch" if not mnemonic.startswith("brk") else "system"
    if mnemonic in _SYSTEM or mnemonic in (
        "nop",
        "yield",
        "wfe",
        "wfi",
        "sev",
        "sevl",
        "bti",
        "csdb",
        "esb",
        "svc",
        "smc",
    ):
        return "system"
    return "store" if mnemonic.startswith("st") else "load" if mnemonic.startswith("ld") else "data"


def sampled(seed: int, count: int) -> Iterator[int]:
    """Words of every class, most of them of loads, stores and system instructions."""
    rng = random.Random(seed)
    for _ in range(count):
        word, chosen = rng.getrandbits(32), rng.random()
        if chosen < 0.2:
            word = 0xD500_0000 | word & 0xFF_FFFF
        elif chosen < 0.3:  # hints, barriers and immediates of PSTATE, of which there are few
            word = 0xD500_0000 | word & 0x7_7FFF | 0x0001_0000 * (word >> 20 & 7)
        elif chosen < 0.7:
            word = word & ~0x0A00_0000 | 0x0800_0000
        elif chosen < 0.85:
            word = word & ~0x0E00_0000 | 0x0A00_0000
        yield word


def compare(words: Iterator[int]) -> tuple[int, list[str]]:
    """How many encodings are executed, and what of them the two decoders disagree on."""
    found = [instruction for instruction in map(executed, words) if instruction is not None]
    wrong = []
    for instruction, text in zip(found, by_llvm([i.word for i in found]), strict=True):
        if text is None or (instruction.is_system and _UNNAMED.match(text)):
            wrong.append(f"{instruction.word:#010x} {instruction.text}: {text or 'invalid'}")
        elif instruction.operations and kind(instruction) != kind_by_llvm(text) and "prf" not in text:
            wrong.append(f"{instruction.word:#010x} {instruction.text}: {text}, another kind of instruction")
    return len(found), wrong


@pytest.fixture(scope="module", autouse=True)
def llvm() -> None:
    if shutil.which("llvm-mc") is None:
        missing("llvm-mc not found: install the Debian package llvm")


def test_a_sample_of_encodings() -> None:
    count, wrong = compare(sampled(1, 12_000))
    assert count > 1_000 and not wrong, wrong[:10]


@pytest.mark.slow
def test_many_encodings() -> None:
    count, wrong = compare(sampled(2, 150_000))
    assert count > 20_000 and not wrong, wrong[:20]


@pytest.mark.slow
def test_every_hint_barrier_and_immediate_of_pstate() -> None:
    words = [
        0xD500_001F | op1 << 16 | crn << 12 | crm << 8 | op2 << 5
        for op1 in range(8)
        for crn in (2, 3, 4)
        for crm in range(16)
        for op2 in range(8)
    ]
    count, wrong = compare(iter(words))
    assert count > 100 and not wrong, wrong[:20]


@pytest.mark.parametrize(
    ("word", "level"),
    [
        (0xD51C_C000, 2),  # msr vbar_el2, x0
        (0xD53D_1000, 2),  # mrs x0, sctlr_el12
        (0xD51E_1000, 3),  # msr sctlr_el3, x0
        (0xD518_1000, 1),  # msr sctlr_el1, x0
        (0xD51B_4220, 0),  # msr daif, x0: EL0 may be let
        (0xD50C_871F, 2),  # tlbi alle2
        (0xD508_871F, 1),  # tlbi vmalle1
        (0xD508_7620, 1),  # dc ivac, x0
        (0xD50B_7E20, 0),  # dc civac, x0
        (0xD69F_03E0, 1),  # eret
        (0xD503_201F, 0),  # nop
        (0xF940_0000, 0),  # ldr x0, [x0]
    ],
)
def test_lowest_exception_level(word: int, level: int) -> None:
    assert lowest_el(word) == level


@pytest.mark.parametrize(
    ("word", "is_one"),
    [
        (0xF840_0810, True),
        (0xB800_0820, True),
        (0x3840_0841, True),
        (0xF840_0010, False),
        (0xF860_0810, False),
    ],
)
def test_unprivileged_access(word: int, is_one: bool) -> None:
    """ldtr x16, [x0]; sttr w0, [x1]; ldtrb w1, [x2]; and ldur, and an offset in a register."""
    assert unprivileged(word) is is_one


def test_barrier_that_needs_an_extension_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="FEAT_XS"):
        decode(0xD503_3E3F, 0)


def test_kinds_are_told_apart() -> None:
    assert Counter(
        map(kind_by_llvm, ["ldr x0, [x1]", "str x0, [x1]", "b.eq #8", "msr daif, x0", "add x0, x1, x2"])
    ) == {"load": 1, "store": 1, "branch": 1, "system": 1, "data": 1}
