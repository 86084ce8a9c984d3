"""Compare the engine's result of one instruction on one state with Unicorn's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kexec_verify.arm64.state import GENERAL
from kexec_verify.cosim.machine import WINDOW_SIZE, WINDOWS, After, Machine
from kexec_verify.cosim.meaning import REGISTERS, Meaning, Result
from kexec_verify.errors import InternalError

_WORD = 8


class OutsideError(Exception):
    """The engine's access is in no window, though Unicorn's is."""


@dataclass(frozen=True)
class Mismatch:
    """A state on which the two differ.

    :param differences: what differs, with our value and Unicorn's.
    """

    word: int
    address: int
    text: str
    state: dict[str, int]
    differences: list[str]

    def lines(self) -> list[str]:
        """Return lines for a terminal: the instruction, what differs, and the state that shows it."""
        shown = [f"{self.word:#010x} {self.text} at {self.address:#x}"]
        shown += [f"  {difference}" for difference in self.differences]
        names = (*REGISTERS,)
        for start in range(0, len(names), 4):
            shown.append("  " + " ".join(f"{n}={self.state[n]:#x}" for n in names[start : start + 4]))
        return shown


def read_at(memory: tuple[bytes, ...], address: int, size: int) -> int:
    """Return the ``size`` bytes at ``address`` in the windows, little-endian.

    :raises OutsideError: if it is in none of them.
    """
    for start, data in zip(WINDOWS, memory, strict=True):
        offset = address - start
        if 0 <= offset <= WINDOW_SIZE - size:
            return int.from_bytes(data[offset : offset + size], "little")
    raise OutsideError(f"address {address:#x} is in no window")


def expected_memory(memory: tuple[bytes, ...], stores: Mapping[tuple[int, int], int]) -> tuple[bytes, ...]:
    """Return the windows after the engine's ``stores``.

    :raises OutsideError: if one of them is in no window.
    """
    if not stores:
        return memory
    changed = [bytearray(data) for data in memory]
    for (address, size), value in stores.items():
        read_at(memory, address, size)
        for start, data in zip(WINDOWS, changed, strict=True):
            offset = address - start
            if 0 <= offset <= WINDOW_SIZE - size:
                data[offset : offset + size] = value.to_bytes(size, "little")
    return tuple(bytes(data) for data in changed)


def simulate(machine: Machine, address: int, state: Mapping[str, int]) -> After:
    """Return Unicorn's result for the instruction placed at ``address``."""
    registers = [state[name] for name in (*GENERAL, "sp")]
    nzcv = state["NG"] << 3 | state["ZR"] << 2 | state["CY"] << 1 | state["OV"]
    return machine.run(address, registers, nzcv)


def compare(machine: Machine, meaning: Meaning, state: dict[str, int]) -> Mismatch | None:
    """Run both; return None if they agree on registers, flags, memory and the next instruction."""
    address = meaning.instruction.address
    after = simulate(machine, address, state)
    try:
        ours = meaning.run(state, lambda at, size: read_at(machine.memory, at, size))
        memory = expected_memory(machine.memory, ours.stores)
    except OutsideError as error:
        found = [f"memory: the engine {error}, Unicorn's {after.fault or 'is in a window'}"]
    except InternalError as error:
        found = [f"paths: {error}"]
    else:
        found = _differences(ours, memory, after)
    if not found:
        return None
    instruction = meaning.instruction
    return Mismatch(instruction.word, address, instruction.text, state, found)


def _differences(ours: Result, memory: tuple[bytes, ...], after: After) -> list[str]:
    if after.fault:
        return [f"fault: the engine none, Unicorn's {after.fault}"]
    found = [
        f"{name}: the engine {mine:#x}, Unicorn's {theirs:#x}"
        for name, mine, theirs in zip(REGISTERS, ours.registers, after.registers, strict=True)
        if mine != theirs
    ]
    if ours.target != after.target:
        found.append(f"pc: the engine {ours.target:#x}, Unicorn's {after.target:#x}")
    for start, mine_bytes, their_bytes in zip(WINDOWS, memory, after.memory, strict=True):
        if mine_bytes == their_bytes:
            continue
        for offset in range(0, WINDOW_SIZE, _WORD):
            word, other = mine_bytes[offset : offset + _WORD], their_bytes[offset : offset + _WORD]
            if word != other:
                found.append(
                    f"memory at {start + offset:#x}: the engine {word.hex()}, Unicorn's {other.hex()}"
                )
    return found
