"""Run the list machine in lockstep with a run: check each iteration's accesses, and memory after it."""

from __future__ import annotations

from dataclasses import dataclass

from kexec_verify.kexec.abi_variant import AbiVariant
from kexec_verify.refute.effects import Access
from kexec_verify.refute.oracle import Iteration, Oracle
from kexec_verify.refute.scenario import MASK, WORD, OutsideError, Scenario, Words, explain
from kexec_verify.refute.violation import Findings
from kexec_verify.specs.relocate_kernel import Kind

type Numbered = tuple[int, Access]
"""An access and its number in the log."""


def first_difference(actual: Words, expected: Words, page: int, origin: int) -> tuple[int, int, int] | None:
    """Return the first word of the page at ``page`` that differs from ``expected`` at ``origin``.

    Its address, its value, and the expected value; None if the pages are equal.
    """
    found, wanted = actual.page(page), expected.page(origin)
    if found == wanted:
        return None
    number = next(i for i, pair in enumerate(zip(found, wanted, strict=True)) if pair[0] != pair[1])
    return page + number * WORD, found[number], wanted[number]


@dataclass
class Lockstep:
    """Compares a run with the list machine, iteration by iteration.

    ``memory`` is what the run has left so far, ``stored`` the words it wrote, ``copied``
    the destination pages of its iterations. After the first iteration that is not a step of
    the list machine, ``diverged``: later iterations are not compared.
    """

    variant: AbiVariant
    scenario: Scenario
    findings: Findings

    def __post_init__(self) -> None:
        self.oracle = Oracle(self.scenario)
        self.memory = Words(self.scenario)
        self.stored: set[int] = set()
        self.copied: set[int] = set()
        self.diverged = False

    def skipped(self, at: int) -> None:
        """Judge that control goes past the loop without entering it."""
        if not self.oracle.ended:
            head = f"a head without IND_DONE, {self.scenario.head:#x}"
            self.findings.broken("reloc-step", at, "the list is skipped", "an iteration for the head", head)

    def apply(self, access: Access) -> None:
        """Make a store."""
        self.stored.update(range(access.address & -WORD, access.address + access.size, WORD))
        try:
            if access.size == WORD and not access.address % WORD:
                self.memory.write(access.address, access.value)
                return
            for number, byte in enumerate(access.value.to_bytes(access.size, "little")):
                word, shift = (access.address + number) & -WORD, 8 * ((access.address + number) % WORD)
                rest = self.memory.read(word) & ~(0xFF << shift)
                self.memory.write(word, rest | byte << shift)
        except OutsideError:
            pass  # a fault: the run ends here

    # One iteration

    def over(self, at: int) -> None:
        """Require that the list has not ended when the loop is entered once more."""
        if not self.diverged and self.oracle.ended:
            self.diverged = True
            found = f"another iteration after {self.oracle.entry:#x}"
            self.findings.broken("reloc-step", at, "the list goes on", "its end at IND_DONE", found)

    def accesses(self, accesses: list[Numbered]) -> Iteration:
        """Judge the addresses of an iteration's accesses, and execute its stores."""
        spec = self.oracle.begin()
        for index, access in accesses:
            expected = self._misplaced(spec, access)
            if expected is not None or self.oracle.ended:
                what = f"the {access.kind} for the word {spec.entry:#x}"
                wanted = "no access, the list is over" if self.oracle.ended else str(expected)
                self.findings.broken(
                    "reloc-memory-safe", access.at, what, wanted, f"{access.address:#x}", index
                )
                if expected is not None and not self.diverged:
                    self.findings.broken(
                        "reloc-step", access.at, what, expected, f"{access.address:#x}", index
                    )
            if access.kind == "store":
                self.apply(access)
        return spec

    def _misplaced(self, spec: Iteration, access: Access) -> str | None:
        """Return where the access should have gone, if it went elsewhere."""
        copies = spec.kind is Kind.SOURCE
        start = spec.dest if access.kind == "store" else spec.addr
        if copies and (access.address - start) & MASK <= self.variant.page_size - access.size:
            return None
        if access.kind == "store":
            return f"the destination page {spec.dest:#x}" if copies else "no store"
        if access.address == spec.next_at:
            return None
        page = f" or the source page {spec.addr:#x}" if copies else ""
        return f"the next word of the list at {spec.next_at:#x}{page}"

    def iteration_ends(self, at: int, accesses: list[Numbered], left: bool) -> None:
        """Judge a complete iteration; ``left``: control has left the loop."""
        spec = self.accesses(accesses)
        if self.diverged or self.oracle.ended:
            return
        try:
            self.oracle.finish(spec)
        except OutsideError:  # a copy has put nonsense into the list: the machine is not defined further
            self.diverged = True
            return
        if spec.kind is Kind.SOURCE:
            self.copied.add(spec.dest)
        self._same_memory(at, accesses, spec)
        loads = [(index, access) for index, access in accesses if access.kind == "load"]
        last = loads[-1] if loads else None
        if last is None or last[1].address != spec.next_at:
            where, index = (last[1].at, last[0]) if last else (at, None)
            found = f"one at {last[1].address:#x}" if last else "none"
            what = f"the load of the word after {spec.entry:#x}"
            self._diverge(where, what, f"one at {spec.next_at:#x}", found, index)
        elif left != self.oracle.ended:
            found = f"{self.oracle.entry:#x} {'ends' if left else 'does not end'} it"
            self._diverge(last[1].at, "the loop over the list", "its end exactly at IND_DONE", found, None)

    def _diverge(self, at: int, effect: str, expected: str, found: str, index: int | None) -> None:
        self.diverged = True
        self.findings.broken("reloc-step", at, effect, expected, found, index)

    def _same_memory(self, at: int, accesses: list[Numbered], spec: Iteration) -> None:
        """Require that memory equals the list machine's after the iteration."""
        pages = {access.address & -self.variant.page_size for _, access in accesses if access.kind == "store"}
        if spec.kind is Kind.SOURCE:
            pages.add(spec.dest)
        for page in sorted(pages):
            try:
                wrong = first_difference(self.memory, self.oracle.memory, page, page)
            except OutsideError:
                continue
            if wrong is not None:
                address, found, expected = wrong
                stores = [n for n in accesses if n[1].kind == "store" and n[1].address & -WORD == address]
                what = f"{'the' if stores else 'no'} store to {address:#x} for the word {spec.entry:#x}"
                where, index = (stores[-1][1].at, stores[-1][0]) if stores else (at, None)
                wanted, got = explain(expected, self.scenario), explain(found, self.scenario)
                self._diverge(where, what, wanted, got, index)
