"""Write a recorded counterexample for a debugger: memory images, the code, and a gdb script.

The addresses are those at which the code sees memory. So the script is for a target that maps them so, or
for a debugger's simulator.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kexec_verify.arm64.lift import SIZE
from kexec_verify.arm64.state import FLAGS, SYSTEM
from kexec_verify.files import safe_name
from kexec_verify.refute.functions.effects import Answer
from kexec_verify.refute.functions.path_run import PAGE
from kexec_verify.refute.scenario import image
from kexec_verify.report.plain import plain
from kexec_verify.report.replay import Recorded, RecordedCall

_FLAGS_SHIFT = 28  # PSTATE.NZCV in gdb's $cpsr


def write_out(item: Recorded | RecordedCall, directory: Path) -> list[Path]:
    """Write what a debugger needs to run the counterexample up to the first bad effect; return the files."""
    shown, code = item.counterexample, item.code
    name = safe_name(shown.property)
    directory.mkdir(parents=True, exist_ok=True)
    images: list[tuple[Path, int]] = []
    if isinstance(item, Recorded):
        scenario = item.counterexample.scenario
        images.append((directory / f"{name}.memory.bin", scenario.ram_at))
        images[0][0].write_bytes(image(scenario))
        lines = [f"set ${register} = {value:#x}" for register, value in scenario.arguments().items()]
        start, stop = code.address, f"break *{shown.at:#x}"
    else:
        for number, (address, data) in enumerate(memory_images(item)):
            path = directory / f"{name}.memory{number or ''}.bin"
            path.write_bytes(data)
            images.append((path, address))
        lines = list(_call_lines(item))
        given = item.counterexample.given
        start, stop = given.start, f"break *{shown.at:#x} if $answered == {len(given.answers)}"
    text = directory / f"{name}.code.bin"
    text.write_bytes(code.data)
    script = directory / f"{name}.gdb"
    restored = [f"restore {path.name} binary {address:#x}" for path, address in images]
    script.write_text(
        "\n".join(
            [
                # The record may be anybody's: a line break would end the comment.
                f"# {plain(shown.property)}: {plain(shown.effect)}".rstrip("\\"),
                "set architecture aarch64",
                *restored,
                f"restore {text.name} binary {code.address:#x}",
                *lines,
                f"set $pc = {start:#x}",
                stop,
                "display/i $pc",
                "continue",
                "",
            ]
        )
    )
    return [*(path for path, _ in images), text, script]


def memory_images(item: RecordedCall) -> Iterator[tuple[int, bytes]]:
    """Yield what a call finds in memory: first address and bytes of each run of adjoining pages."""
    given = item.counterexample.given
    pages = sorted({page & -PAGE for page in given.pages})
    runs: list[list[int]] = []
    for page in pages:
        if runs and runs[-1][-1] + PAGE == page:
            runs[-1].append(page)
        else:
            runs.append([page])
    for run in runs:
        data = bytearray(len(run) * PAGE)
        for address, word in given.memory.items():
            if run[0] <= address < run[-1] + PAGE:
                data[address - run[0] : address - run[0] + 8] = word.to_bytes(8, "little")
        yield run[0], bytes(data)


def _call_lines(item: RecordedCall) -> Iterator[str]:
    """Yield registers at entry, and for each callee a breakpoint that sets its recorded results."""
    given = item.counterexample.given
    for name, value in given.registers.items():
        if name in SYSTEM:
            yield f"# {name} = {value:#x}"  # gdb has no common name for it
        elif name not in FLAGS:
            yield f"set ${name} = {value:#x}"
    yield f"set $cpsr = ($cpsr & ~{0xF << _FLAGS_SHIFT:#x}) | {_flags(given.registers):#x}"
    yield "set $answered = 0"
    for at in sorted({answer.at for answer in given.answers}):
        yield f"break *{at:#x}"
        yield "commands"
        yield "silent"
        for number, answer in enumerate(given.answers):
            if answer.at == at:
                yield f"if $answered == {number}"
                yield from (f"  {line}" for line in _answer_lines(answer))
                yield "end"
        yield "set $answered = $answered + 1"
        # The callee's answer is there; a tail call goes back to the caller's caller.
        tail = "BRANCH" in item.code.at(at).opcodes
        yield "set $pc = $lr" if tail else f"set $pc = {at + SIZE:#x}"
        yield "continue"
        yield "end"


def _answer_lines(answer: Answer) -> Iterator[str]:
    for name, value in answer.registers.items():
        if name in SYSTEM:
            yield f"# {name} = {value:#x}"
        elif name not in FLAGS:
            yield f"set ${name} = {value:#x}"
    for address, data in answer.stores.items():
        values = ", ".join(f"{byte:#x}" for byte in bytes.fromhex(data))
        yield f"set {{unsigned char [{len(data) // 2}]}} {address:#x} = {{{values}}}"


def _flags(registers: dict[str, int]) -> int:
    return sum((registers[name] & 1) << _FLAGS_SHIFT + 3 - bit for bit, name in enumerate(FLAGS))
