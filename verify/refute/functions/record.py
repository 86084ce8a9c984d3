"""Record a counterexample for a function: inputs, callees' answers, and a run with a wrong end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import msgspec
from kexec_verify.arm64.lift import SIZE, Code
from kexec_verify.arm64.state import FLAGS, GENERAL, SYSTEM
from kexec_verify.errors import InternalError
from kexec_verify.kexec.choices import name_of, sites_of
from kexec_verify.kexec.context import KexecContext
from kexec_verify.refute.functions.effects import Inputs, Left
from kexec_verify.refute.functions.path_run import PathRun
from kexec_verify.refute.patched import Words, patched, recorded
from kexec_verify.specs.capabilities import HAS_MOPS

_SHOWN = 14  # instructions, in a terminal
_REGISTERS = (*GENERAL, "sp", *FLAGS, *SYSTEM)


class Executed(msgspec.Struct, frozen=True):
    """One instruction of a run and the registers that it changed, in hexadecimal."""

    address: int
    text: str
    changed: dict[str, str]


class Ending(msgspec.Struct, frozen=True):
    """Where a run ended and what it left: registers, and bytes of memory by address.

    :param events: the system instructions, barriers, calls and WARNs of the run, and their addresses.
    """

    kind: str
    at: int
    target: int
    registers: dict[str, int]
    memory: dict[int, int]
    events: tuple[tuple[str, int], ...] = ()


class CallCounterexample(msgspec.Struct, frozen=True, tag="call", tag_field="kind"):
    """Concrete inputs with which the target's bytes do what a property forbids.

    :param obligation: what does not hold, in a sentence; ``expected``, ``found``: the same in values.
    :param inputs: what differs from zero at entry and after calls, by the kernel's names.
    :param effect: the first bad effect in a sentence; ``at``: the address of its instruction.
    :param code: address and length in bytes of what was run; ``resumed``: its WARNs.
    :param further: name, address and length in bytes of other functions that are run as part of it.
    :param el: the exception level that the code runs at.
    :param choices: the capabilities and static keys that are set, of those that decide over the bytes.
    :param patched: what stands in the code where they are: addresses, and bytes in hexadecimal.
    :param given: what the run can be repeated from; ``ending``: how it ends.
    """

    function: str
    property: str
    obligation: str
    inputs: dict[str, str]
    expected: str
    found: str
    effect: str
    at: int
    where: str
    steps: tuple[Executed, ...]
    code: tuple[int, int]
    resumed: tuple[int, ...]
    given: Inputs
    ending: Ending
    el: int = 1
    further: tuple[tuple[str, int, int], ...] = ()
    choices: tuple[str, ...] = ()
    patched: Words = ()

    def where_is(self, address: int) -> str:
        """Return ``address`` as the kernel prints it."""
        for name, start, size in ((self.function, *self.code), *self.further):
            if start <= address < start + size:
                return f"{name}+{address - start:#x}/{size:#x}"
        return f"{address:#x}"

    def as_dict(self) -> dict[str, Any]:
        """Return the counterexample as plain data for JSON; keys are strings."""
        found: dict[str, Any] = msgspec.to_builtins(self, str_keys=True)
        return found


def further(code: Code) -> tuple[tuple[str, int, int], ...]:
    """Return name, address and length in bytes of the functions that are run as part of ``code``."""
    return tuple((piece.name, piece.address, len(piece.data)) for piece in code.continuations)


class Chosen(TypedDict):
    """The parameters of a counterexample that say what boot has patched."""

    choices: tuple[str, ...]
    patched: Words


def chosen(context: KexecContext, code: Code | None = None) -> Chosen:
    """Return what a counterexample in the kernel of ``context`` says of its choices.

    :param code: what was run, whose static keys may differ from the kernel's bytes.
    """
    variant = context.variant
    words = dict(variant.words) if variant is not None else {}
    choices = set(variant.choices) if variant is not None else set()
    for at, (_, is_set) in (code.either if code is not None else {}).items():
        assert code is not None
        now = code.data[at - code.address : at - code.address + SIZE]
        if now == is_set.to_bytes(SIZE, "little"):
            sites = sites_of(context.kernel, code)
            choices |= {name_of(context.kernel, site) for site in sites if site.address == at}
        if now != context.kernel.read(at, SIZE):
            words[at] = now
    return Chosen(choices=tuple(sorted(choices)), patched=recorded(words))


def executed(code: Code, run: PathRun, called: Callable[[int], str] = hex) -> tuple[Executed, ...]:
    """Return the instructions of a finished run; ``called`` gives the name of a call's target."""
    return tuple(
        Executed(at, code.text(code.at(at), called), {name: f"{value:#x}" for name, value in changed.items()})
        for at, changed in zip(run.trace, run.changed, strict=True)
    )


def ending(run: PathRun, memory: Mapping[int, int]) -> Ending:
    """Return how a finished run ended."""
    left = run.left or Left("stopped", 0, 0)
    registers = run.registers()
    events = tuple((event.name, event.at) for event in run.events)
    return Ending(
        left.kind, left.at, left.target, {n: registers[n] for n in _REGISTERS}, dict(memory), events
    )


def rerun(record: Mapping[str, Any], read: Callable[[int, int], bytes]) -> CallCounterexample:
    """Run a recorded counterexample again.

    :param record: what ``as_dict`` gave.
    :param read: the target's bytes, by address and number.
    :raises InternalError: if the run is not the recorded one.
    """
    known = msgspec.convert(record, CallCounterexample, strict=False)
    address, length = known.code
    data = patched(read(address, length), address, known.patched)
    others = tuple(
        Code(name, at, patched(read(at, size), at, known.patched), calls=True)
        for name, at, size in known.further
    )
    resumed = frozenset(known.resumed)
    code = Code(
        known.function, address, data, True, resumed, el=known.el, continuations=others,
        copies_memory=HAS_MOPS in known.choices,
    )  # fmt: skip
    run = PathRun(code, known.given)
    run.run()
    again = ending(run, {at: run.read(at, 1) or 0 for at in known.ending.memory})
    if _did(executed(code, run)) != _did(known.steps) or again != known.ending:
        raise InternalError(f"the replay of {known.property} does not show: {known.effect}")
    return known


def _did(steps: tuple[Executed, ...]) -> list[tuple[int, dict[str, str]]]:
    """Return what was run and changed, without the text: a record has no names of callees."""
    return [(step.address, step.changed) for step in steps]


def format_call(known: CallCounterexample) -> list[str]:
    """Return the counterexample as lines for a terminal, without colour."""
    lines = [f"{known.property}: {known.effect}", ""]
    if known.choices:
        lines.append(f"  on a machine where boot has set {', '.join(known.choices)}")
    lines.append(f"  {known.function} is called with:")
    width = max((len(name) for name in known.inputs), default=0)
    lines += [f"    {name:<{width}}  {value}" for name, value in known.inputs.items()]
    if not known.inputs:
        lines.append("    registers and memory that are zero where they may be")
    total = len(known.steps)
    at = [number for number, step in enumerate(known.steps, 1) if step.address == known.at]
    # The fault may be long before the end of the run: its instruction is shown, and two that follow.
    end = min(at[-1] + 2, total) if at else total
    first = max(end - _SHOWN, 0)
    lines.append(f"  run: instructions {first + 1} to {end} of {total}:")
    for step in known.steps[first:end]:
        changed = ", ".join(f"{name} = {value}" for name, value in step.changed.items())
        lines.append(
            f"    {known.where_is(step.address):<42} {step.text}" + (f"  → {changed}" if changed else "")
        )
    lines.append(f"  expected {known.expected}")
    lines.append(f"  found    {known.found}")
    return lines
