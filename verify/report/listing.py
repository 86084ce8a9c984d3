"""List a function's instructions for the record: successors, system events, and which were run."""

from __future__ import annotations

from collections.abc import Callable, Collection

from kexec_verify.arm64.lift import Code, Instruction, loops, successors
from kexec_verify.arm64.state import SYSTEM
from kexec_verify.errors import UnsupportedError
from kexec_verify.report.model import InstructionRecord


def list_instructions(
    code: Code, covered: Collection[int], outside: Callable[[int], str] = hex
) -> list[InstructionRecord]:
    """Return every instruction of ``code``.

    :param covered: addresses that some path ran.
    :param outside: what the target of a call is called.
    """
    shown = []
    for address in code.addresses:
        offset = address - code.address
        word = int.from_bytes(code.data[offset : offset + 4], "little")
        try:
            instruction = code.at(address)
        except UnsupportedError as error:
            # What it would do to control is unknown too: the listing has to go on somewhere.
            shown.append(InstructionRecord(address, word, f".inst {word:#010x}", event=error.what))
            continue
        then = [target for target in successors(instruction) if code.address <= target < code.end]
        event = _event(instruction)
        text = code.text(instruction, outside)
        shown.append(InstructionRecord(address, word, text, then, event, address in covered))
    return shown


def loop_heads(code: Code) -> list[int]:
    """Return the addresses of the heads of its loops, outer before inner; none if control flow is unknown."""
    try:
        return [loop.head for loop in loops(code)]
    except UnsupportedError:
        return []


def _event(instruction: Instruction) -> str:
    """Return the name of the system event that the instruction is in the model; empty if it is none."""
    for operation in instruction.operations:
        if operation.opcode.name == "CALLOTHER":
            return str(operation.inputs[0].getUserDefinedOpName())
        output = operation.output
        if output is not None and output.space.name == "register":
            name = output.getRegisterName()
            if name in SYSTEM and instruction.text.startswith("msr"):
                return f"msr {name}"
    mnemonic, _, operands = instruction.text.partition(" ")
    return f"mrs {operands.rpartition(', ')[2]}" if mnemonic == "mrs" else ""
