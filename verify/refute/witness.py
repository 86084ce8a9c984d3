"""Find witnesses for paths: lists on which the real bytes run along a path of the proof.

A symbolic path crosses an inner loop once, with any progress; a concrete run iterates it many times. So a
run is cut at the proof's cutpoints, and only the last iteration of each inner loop is kept. What remains is
the path that the run takes. An iteration that returns to an inner loop's head is a witness too, for that
loop's own iteration.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from kexec_verify.arm64.lift import Code, Loop, loops
from kexec_verify.kexec.abi_variant import AbiVariant
from kexec_verify.refute.lists import build, build_plans
from kexec_verify.refute.machine import Machine
from kexec_verify.refute.oracle import instructions, iterations
from kexec_verify.refute.scenario import OutsideError, Scenario
from kexec_verify.refute.search import tests_head

type Path = tuple[int, ...]
"""Addresses of the instructions of a path, from one cutpoint to the next."""

LISTS = 80  # maximum tried; every path of the supported variants is found in far fewer


class _Cutter:
    """Cuts a run's instructions into paths between cutpoints."""

    def __init__(self, stops: frozenset[int], inner: dict[int, Loop]):
        self.stops, self.inner = stops, inner
        self.found: set[Path] = set()
        self.path: list[int] = []
        self.heads: dict[int, int] = {}  # head of an inner loop on the path -> its position

    def step(self, address: int) -> None:
        """Handle one instruction, before it is executed."""
        if address in self.stops:
            self.end()
        elif address in self.heads and self.inner[address].goes_round(self.path[-1]):
            self.found.add(tuple(self.path))
            del self.path[self.heads[address] :]
        if address in self.inner:
            self.heads[address] = len(self.path)
        self.path.append(address)

    def end(self) -> None:
        """Complete the path so far."""
        if self.path:
            self.found.add(tuple(self.path))
        self.path, self.heads = [], {}


def walk(code: Code, variant: AbiVariant, wanted: Iterable[Path]) -> dict[Path, Scenario]:
    """Return, for each wanted path that some list takes, the smallest such list."""
    stops = frozenset({variant.loop, *variant.exits})
    inner = {loop.head: loop for loop in loops(code) if loop.head != variant.loop}
    missing = set(wanted)
    found: dict[Path, Scenario] = {}
    for plan in itertools.islice(build_plans(variant, tests_head(code, variant)), LISTS):
        if not missing:
            break
        scenario = build(plan, variant)
        cutter = _Cutter(stops, inner)
        try:
            limit = 3 * instructions(scenario, iterations(scenario)[0])
            machine = Machine(code, stops, cutter.step)
            machine.run(scenario, limit)
        except OutsideError:
            continue
        cutter.end()
        for path in cutter.found & missing:
            found[path] = scenario
        missing -= cutter.found
    return found
