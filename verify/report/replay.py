"""Replays the counterexamples of a finished run from run.json alone, and writes them out for a debugger."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from specs.kimage import KimageLayout
from verify.arm64.lift import Code
from verify.errors import InternalError, UsageError
from verify.kexec.form import Form, recognise
from verify.refute.counterexample import Counterexample
from verify.refute.scenario import image
from verify.refute.search import rerun
from verify.report.model import FunctionRecord, Run


@dataclass(frozen=True)
class Recorded:
    """A counterexample with the code and form that it is about."""

    counterexample: Counterexample
    code: Code
    form: Form


def recorded(run: Run) -> list[Recorded]:
    """The counterexamples of a run.

    :raises UsageError: if its bytes are not those that its hash names.
    """
    found = [record for record in run.properties if record.counterexample is not None]
    if not found:
        return []
    code = _code(run.function)
    layout = KimageLayout(run.function.layout["dtb_mem"]) if run.function.layout else None
    form = recognise(code, run.function.page_size, layout)
    return [
        Recorded(msgspec.convert(record.counterexample, Counterexample, strict=False), code, form)
        for record in found
    ]


def _code(function: FunctionRecord) -> Code:
    data = b"".join(instruction.word.to_bytes(4, "little") for instruction in function.instructions)
    found = hashlib.sha256(data).hexdigest()
    if found != function.sha256:
        raise UsageError(f"expected the bytes with SHA-256 {function.sha256}, found {found}")
    return Code(function.name, function.address, data)


def confirm(item: Recorded) -> None:
    """Run the counterexample again on the recorded bytes.

    :raises InternalError: if the run does not show the recorded effect.
    """
    shown = item.counterexample
    if not rerun(shown, item.code, item.form):
        raise InternalError(f"the replay of {shown.property} does not show: {shown.effect}")


def write_out(item: Recorded, directory: Path) -> list[Path]:
    """Write the memory image, the code, and a gdb script that loads both and stops at the bad effect.

    Addresses are those at which the routine sees memory: the script is for a target that maps
    them so, or for a debugger's simulator.
    """
    shown, code = item.counterexample, item.code
    directory.mkdir(parents=True, exist_ok=True)
    memory = directory / f"{shown.property}.memory.bin"
    memory.write_bytes(image(shown.scenario))
    text = directory / f"{shown.property}.code.bin"
    text.write_bytes(code.data)
    arguments = [f"set ${name} = {value:#x}" for name, value in shown.scenario.arguments().items()]
    script = directory / f"{shown.property}.gdb"
    script.write_text(
        "\n".join(
            [
                f"# {shown.property}: {shown.effect}",
                "set architecture aarch64",
                f"restore {memory.name} binary {shown.scenario.ram_at:#x}",
                f"restore {text.name} binary {code.address:#x}",
                *arguments,
                f"set $pc = {code.address:#x}",
                f"break *{shown.at:#x}",
                "display/i $pc",
                "continue",
                "",
            ]
        )
    )
    return [memory, text, script]
