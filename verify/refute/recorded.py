"""Counterexamples as run.json has them: plain data, read without the engine."""

from __future__ import annotations

from typing import Any

import msgspec
from kexec_verify.refute.functions.effects import Inputs
from kexec_verify.refute.scenario import Scenario


class ListWord(msgspec.Struct, frozen=True):
    """A word as the list machine comes to it.

    :param address: where the routine reads it; None for the head.
    :param flag: names of its flags, ``|`` between them; ``page``: the physical address in it.
    """

    index: int
    address: int | None
    value: int
    flag: str
    page: int


class Page(msgspec.Struct, frozen=True):
    """A page that the list names: physical address, where the routine sees it, what it is for."""

    physical: int
    seen: int
    roles: tuple[str, ...]


class PathStep(msgspec.Struct, frozen=True):
    """An executed instruction and the general registers that it changed."""

    address: int
    where: str
    text: str
    changed: dict[str, int]


class Counterexample(msgspec.Struct, frozen=True):
    """A run that breaks a property.

    :param effect: the bad effect in one sentence; ``at``, ``where``: the instruction that has it.
    :param list: every word up to IND_DONE; ``pages``: those that the words name.
    :param path: the last instructions up to the effect, of ``instructions`` executed.
    :param registers: x0 … x30 at the effect; ``system``: system registers there.
    :param end: how the whole run ends.
    """

    property: str
    effect: str
    at: int
    where: str
    expected: str
    found: str
    scenario: Scenario
    kimage: dict[str, int]
    list: tuple[ListWord, ...]
    pages: tuple[Page, ...]
    path: tuple[PathStep, ...]
    instructions: int
    registers: dict[str, int]
    system: dict[str, int]
    end: str


class Executed(msgspec.Struct, frozen=True):
    """One instruction of a run and the registers that it changed, in hexadecimal."""

    address: int
    text: str
    changed: dict[str, str]


class Ending(msgspec.Struct, frozen=True):
    """Where a run ended and what it left: registers, and bytes of memory by address.

    :param events: the system instructions, barriers, calls and WARNs on the way, and where.
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
    :param el: the exception level that the code runs at.
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

    def as_dict(self) -> dict[str, Any]:
        """The counterexample as what JSON has; keys are strings."""
        found: dict[str, Any] = msgspec.to_builtins(self, str_keys=True)
        return found
