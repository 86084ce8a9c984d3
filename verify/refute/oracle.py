"""Run the list machine of specs.relocate_kernel on plain ints, one step for each iteration of a run."""

from __future__ import annotations

from dataclasses import dataclass

from kexec_verify.refute.scenario import MASK, OutsideError, Scenario, Words
from kexec_verify.specs.relocate_kernel import Kind, ListMachine, done, is_kind

_MOST_ITERATIONS = 1 << 16


@dataclass(frozen=True)
class Iteration:
    """The machine's action for one word.

    :param addr: the address at which the routine sees the word's page; ``dest``: the destination before.
    :param next_at: where the next word is read.
    """

    entry: int
    kind: Kind
    addr: int
    dest: int
    next_at: int


class Oracle:
    """A list machine that runs on its own memory."""

    def __init__(self, scenario: Scenario):
        self.memory = Words(scenario)
        # As a signed number phys_offset takes addresses straight to where they are seen.
        signed = scenario.phys_offset - (1 << 64) if scenario.phys_offset >> 63 or scenario.kimage else 0
        self._machine = ListMachine(scenario.head, -1, -1, self.memory, scenario.page_size, signed)

    @property
    def ended(self) -> bool:
        """Return whether the current word has IND_DONE."""
        return bool(done(self._machine.entry))

    @property
    def entry(self) -> int:
        """Return the current word."""
        return int(self._machine.entry)

    def begin(self) -> Iteration:
        """Return what the current word requires, before any of it is executed."""
        machine = self._machine
        kind = next(kind for kind in Kind if is_kind(machine.entry, kind))
        following = machine.ptr if kind is not Kind.INDIRECTION else machine.addr
        return Iteration(machine.entry, kind, machine.addr & MASK, machine.dest & MASK, following & MASK)

    def finish(self, iteration: Iteration) -> None:
        """Execute the step.

        :raises OutsideError: where the machine is not defined.
        """
        self._machine = self._machine.iteration(iteration.kind)


def iterations(scenario: Scenario) -> tuple[list[Iteration], Words]:
    """Return all iterations on the list of a scenario, and memory after them.

    :raises OutsideError: if the machine is not defined on it, or does not end.
    """
    oracle = Oracle(scenario)
    made: list[Iteration] = []
    while not oracle.ended:
        iteration = oracle.begin()
        made.append(iteration)
        oracle.finish(iteration)
        if len(made) > _MOST_ITERATIONS:
            raise OutsideError("list without an end")
    return made, oracle.memory


def instructions(scenario: Scenario, made: list[Iteration]) -> int:
    """Return an upper estimate of the instructions that the routine needs for these iterations."""
    copies = sum(iteration.kind is Kind.SOURCE for iteration in made)
    page = copies * (3 * scenario.page_size // 8 + 6 * scenario.page_size // scenario.line_size + 64)
    return page + 24 * len(made) + 128
