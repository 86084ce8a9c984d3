"""Co-simulate one opcode class: the targets' encodings and random ones of the class."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from kexec_verify.arm64.lift import decode
from kexec_verify.cosim.classes import classify, mutations
from kexec_verify.cosim.compare import Mismatch, OutsideError, compare, read_at, simulate
from kexec_verify.cosim.machine import CODE, Machine
from kexec_verify.cosim.meaning import Meaning, Result
from kexec_verify.cosim.shares import folded, solvers_agree
from kexec_verify.cosim.states import random_memory, random_state
from kexec_verify.cosim.system import disagreement
from kexec_verify.cosim.system_table import expected, is_system
from kexec_verify.errors import UnsupportedError, VerifyError

# Where instructions are put: about the boundary of the two code pages, and at their ends.
PLACES = (CODE, CODE + 0xFFC, CODE + 0x1000, CODE + 0x1FFC)
_DRAWN = 60  # encodings of a class besides those used
_SOLVED_SHARE = 20  # one of this many drawn encodings is also checked by the solvers
_SHOWN = 3  # mismatches kept of one class


@dataclass
class Checked:
    """Results for one class; counts as in the report."""

    mnemonic: str
    shape: str
    checked: str
    used: int
    drawn: int = 0
    vectors: int = 0
    folded: int = 0
    solved: int = 0
    covered: int = 0
    name: str = ""
    unsupported: list[str] = field(default_factory=list)
    mismatches: int = 0
    shown: list[list[str]] = field(default_factory=list)

    def wrong(self, lines: list[str]) -> None:
        """Record a mismatch."""
        self.mismatches += 1
        if len(self.shown) < _SHOWN:
            self.shown.append(lines)


def check_class(words: list[int], vectors: int, seed: int) -> Checked:
    """Compare ``words``, which are of one class, and others of it, on about ``vectors`` states."""
    shape = classify(words[0], CODE)
    text = decode(words[0], CODE).text if shape else f"{words[0]:#010x}"
    mnemonic = shape.sleigh.partition(" ")[0] if shape else "unknown"
    shown = shape.sleigh if shape else text
    if is_system(words[0]):
        return _check_table(words, Checked(mnemonic, shown, "table", len(words)))
    done = Checked(mnemonic, shown, "unicorn", len(words))
    rng = random.Random(f"{seed} {shown}")
    machine = Machine(random_memory(rng))
    drawn = mutations(words, CODE, min(_DRAWN, max(1, vectors // 16)), rng) if shape else []
    done.drawn = len(drawn)
    each = -(-vectors // (len(words) + len(drawn)))
    for index, word in enumerate([*words, *drawn]):
        solve = index < len(words) or index % _SOLVED_SHARE == 0
        compared = check_word(machine, word, rng.choice(PLACES), each, rng, done, solve)
        done.covered += index < len(words) and compared > 0
    return done


def _check_table(words: list[int], done: Checked) -> Checked:
    for word in words:
        wanted = expected(word)
        done.name = wanted.name if wanted else ""
        try:
            found = disagreement(word)
        except UnsupportedError as error:
            done.unsupported.append(str(error))
            continue
        done.covered += 1
        if found:
            done.wrong([found])
    return done


def check_word(
    machine: Machine, word: int, address: int, count: int, rng: random.Random, done: Checked, solve: bool
) -> int:
    """Compare one instruction on ``count`` states; return how many were compared.

    :param solve: put the first state to the solvers as well.
    """
    try:
        meaning = Meaning(decode(word, address))
    except UnsupportedError as error:
        done.unsupported.append(str(error))
        return 0
    machine.place(word, address)
    compared = 0
    for _ in range(count):
        state = random_state(rng, word)
        if state is None:
            continue
        compared += 1
        mismatch = compare(machine, meaning, state)
        if mismatch is not None:
            done.wrong(mismatch.lines())
            break
        if compared == 1:
            done.folded += 1
            done.solved += solve
            further = _further(machine, meaning, state, solve)
            if further is not None:
                done.wrong(further.lines())
                break
    done.vectors += compared
    return compared


def _further(machine: Machine, meaning: Meaning, state: dict[str, int], solve: bool) -> Mismatch | None:
    """Compute the result in the other ways; return None if all agree."""
    ours = meaning.run(state, lambda at, size: read_at(machine.memory, at, size))
    instruction = meaning.instruction
    found: list[str] = []
    try:
        by_folding = folded(instruction, state, machine.memory)
        if by_folding != ours:
            found.append(f"by folding: {by_folding}; by the text: {ours}")
        wrong = (
            solvers_agree(meaning, state, machine.memory, _as_seen(machine, meaning, state, ours))
            if solve
            else None
        )
        if wrong:
            found.append(f"by the solvers: {wrong}")
    except (OutsideError, VerifyError) as error:
        found.append(str(error))
    if not found:
        return None
    return Mismatch(instruction.word, instruction.address, instruction.text, state, found)


def _as_seen(machine: Machine, meaning: Meaning, state: dict[str, int], ours: Result) -> Result:
    """Return Unicorn's result, with the memory that it has where the engine stores."""
    after = simulate(machine, meaning.instruction.address, state)
    stores = {at: read_at(after.memory, *at) for at in ours.stores}
    return Result(after.registers, stores, after.target)
