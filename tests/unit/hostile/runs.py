"""A refuted run whose two counterexamples replay, and how to write one with a part replaced."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from kexec_verify.arm64.lift import Code
from kexec_verify.arm64.state import FLAGS, GENERAL, SYSTEM
from kexec_verify.kexec.abi_variant import recognise
from kexec_verify.kexec.locate import find_routine
from kexec_verify.refute.functions.effects import Answer, Inputs
from kexec_verify.refute.functions.path_run import PathRun
from kexec_verify.refute.functions.record import CallCounterexample, ending, executed
from kexec_verify.refute.search import search
from kexec_verify.report.model import FunctionRecord, InstructionRecord, Run
from kexec_verify.target import open_target
from kexec_verify.verdict import Verdict

from ..html.example import claim, run

BINARY = Path(__file__).parents[3] / "binaries" / "kimage-mmu-4k-gcc.elf"
_NOP, _IC_IALLU = 0xD503201F, 0xD508751F
_CALLER = bytes.fromhex("000080d2 02000094 c0035fd6".replace(" ", ""))  # mov x0, #0; bl .+8; ret
_CALLER_AT = 0xFFFF_8000_0010_0000


def _function(code: Code, **changed: Any) -> FunctionRecord:
    instructions = [InstructionRecord(at, code.at(at).word, code.text(code.at(at))) for at in code.addresses]
    made = FunctionRecord(
        name=code.name,
        address=code.address,
        size=len(code.data),
        sha256=hashlib.sha256(code.data).hexdigest(),
        found_by="symbol",
        variant="",
        page_size=0,
        roles={},
        layout={},
        layout_from="",
        instructions=instructions,
    )
    return msgspec.structs.replace(made, **changed)


def _call() -> tuple[Code, CallCounterexample]:
    code = Code("machine_kexec", _CALLER_AT, _CALLER, calls=True)
    registers = dict.fromkeys((*GENERAL, "sp", *FLAGS, *SYSTEM), 0)
    answer = Answer("callee", _CALLER_AT + 4, {"x0": 7}, {_CALLER_AT + 0x1000: "0102"})
    given = Inputs(_CALLER_AT, registers, {_CALLER_AT + 0x1000: 5}, (_CALLER_AT + 0x1000,), (answer,), 3)
    done = PathRun(code, given)
    done.run()
    return code, CallCounterexample(
        function="machine_kexec",
        property="inplace-restart",
        obligation="it does not return",
        inputs={"x0": "0x0"},
        expected="nothing",
        found="a return",
        effect="machine_kexec+0x8/0xc: a return",
        at=_CALLER_AT + 8,
        where="machine_kexec+0x8/0xc",
        steps=executed(code, done),
        code=(_CALLER_AT, len(_CALLER)),
        resumed=(),
        given=given,
        ending=ending(done, {_CALLER_AT + 0x1000: 1}),
    )


def refuted_run() -> Run:
    """A run with a list that breaks the routine, and with a call that breaks a C function."""
    kernel = open_target(str(BINARY))
    found = find_routine(kernel)
    code = Code(found.name, found.address, found.code)
    for at in code.addresses:
        if code.at(at).word == _IC_IALLU:
            code = code.patched(at, _NOP)
    variant = recognise(code)
    listed = search(code, variant, {"reloc-icache-invalid"}, most=4)["reloc-icache-invalid"]
    assert variant.layout is not None
    routine = _function(
        code, variant="kimage", page_size=variant.page_size, layout={"dtb_mem": variant.layout.arch}
    )
    caller, call = _call()
    return run(
        claim("reloc-step"),
        claim(
            "reloc-icache-invalid",
            Verdict.REFUTED,
            theorem="T5",
            counterexample=msgspec.to_builtins(listed, str_keys=True),
        ),
        claim("inplace-restart", Verdict.REFUTED, theorem="T6", counterexample=call.as_dict()),
        functions=[routine, _function(caller)],
        paths=[],
    )


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each value in plain data; of a list's items, the first alone."""
    if path:
        yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy of plain data with ``new`` at ``path``; with ``...`` there, what is there is taken out."""
    made = copy.deepcopy(value)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    if new is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return made
