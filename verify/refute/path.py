"""Repeat a run and record its last instructions with the registers that they changed."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from kexec_verify.arm64.lift import Code
from kexec_verify.refute.effects import Executed, Run
from kexec_verify.refute.machine import Machine
from kexec_verify.refute.scenario import Scenario

KEPT = 30  # instructions


class _Counter:
    """Counts instructions until a given number of effects."""

    def __init__(self, stop_after: int):
        self.stop_after = stop_after
        self.count = 0
        self.machine: Machine | None = None

    def step(self, address: int) -> None:
        """Handle one instruction, before it is executed."""
        assert self.machine is not None
        if len(self.machine.log) >= self.stop_after:
            self.machine.stop()
            return
        self.count += 1
        self.keep(address)

    def keep(self, address: int) -> None:
        """Record nothing while only counting."""


class _Recorder(_Counter):
    """Keeps the registers before each of the last instructions."""

    def __init__(self, stop_after: int, first: int):
        super().__init__(stop_after)
        self.first = first
        self.kept: deque[tuple[int, tuple[int, ...]]] = deque(maxlen=KEPT)

    def keep(self, address: int) -> None:
        """Record the registers before an instruction."""
        assert self.machine is not None
        if self.count > self.first:
            self.kept.append((address, self.machine.general()))

    def path(self, last: tuple[int, ...]) -> tuple[Executed, ...]:
        """Return the recorded instructions; ``last`` are the registers at the end."""
        after = [registers for _, registers in list(self.kept)[1:]] + [last]
        return tuple(
            Executed(
                at,
                tuple((i, new) for i, (old, new) in enumerate(zip(before, then, strict=True)) if old != new),
            )
            for (at, before), then in zip(self.kept, after, strict=True)
        )


def record(code: Code, watch: frozenset[int], scenario: Scenario, limit: int, stop_after: int) -> Run:
    """Return the run up to its effect number ``stop_after`` (counted from 1), or to its end, with its path.

    :param limit: as for Machine.run.
    """

    def once(watcher: _Counter) -> Run:
        machine = Machine(code, watch, watcher.step)
        watcher.machine = machine
        return machine.run(scenario, limit)

    # Reading registers is slow: a first pass finds out which instructions are the last.
    counter = _Counter(stop_after)
    once(counter)
    recorder = _Recorder(stop_after, counter.count - KEPT)
    run = once(recorder)
    return replace(run, count=counter.count, path=recorder.path(run.registers))
