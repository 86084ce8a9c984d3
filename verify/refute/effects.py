"""Define the effects of a concrete run, in order: accesses, system instructions, cutpoints, and its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from kexec_verify.refute.ghost import Ghost


class Context(NamedTuple):
    """System registers and small ghost components just before an effect, as plain ints."""

    sctlr_el1: int
    ttbr0_el1: int
    ttbr1_el1: int
    tcr_el1: int
    daif: int
    unsynced: int
    icache: int
    translation: int


class Access(NamedTuple):
    """One load or store that the CPU made, or attempted if the address is not mapped.

    :param address: as the routine sees it; ``size`` in bytes.
    """

    kind: str
    at: int
    address: int
    size: int
    value: int
    context: Context


class Event(NamedTuple):
    """One system instruction, and the state just before it.

    :param operand: the register operand, 0 for an instruction without one.
    :param registers: x0 … x30, for an HVC only.
    :param lines: line states of words, where they matter (HVC, a write of SCTLR).
    """

    name: str
    at: int
    operand: int
    context: Context
    registers: tuple[int, ...]
    lines: dict[int, int] | None


class Mark(NamedTuple):
    """Control reaches the head of the loop over the list, or the code after that loop."""

    at: int


type Effect = Access | Event | Mark


class Executed(NamedTuple):
    """One executed instruction and the general registers that it changed, by number."""

    at: int
    changed: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class End:
    """How a run ends.

    :param kind: ``br``, ``ret``, ``hvc`` (EL2 took it), ``fault``, ``fetch`` (control leaves the code, by
        the instruction ``at``), ``brk``, ``undefined``, ``endless`` (a state repeats), ``timeout``
        (stopped at a limit), or ``stopped`` (the run was needed only up to here).
    :param target: where a branch or fetch goes, or the address that faulted.
    """

    kind: str
    at: int
    target: int = 0


@dataclass(frozen=True)
class Run:
    """A finished run.

    :param count: instructions executed, counted in whole blocks.
    :param registers: x0 … x30 at the end.
    :param sp: SP at the end.
    :param path: the last instructions, if they were recorded.
    """

    log: list[Effect]
    end: End
    count: int
    registers: tuple[int, ...]
    context: Context
    ghost: Ghost
    path: tuple[Executed, ...] = ()
    sp: int = 0
