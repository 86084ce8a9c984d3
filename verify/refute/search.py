"""Search for a small list that breaks a property, and minimise it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace

import networkx
from kexec_verify.arm64.lift import Code, control_flow
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.abi_variant import AbiVariant
from kexec_verify.refute.cause import causes
from kexec_verify.refute.counterexample import Counterexample, describe
from kexec_verify.refute.judge import judge
from kexec_verify.refute.lists import FIRST_DEST, FIRST_SOURCE, Plan, Word, build, build_plans, is_well_formed
from kexec_verify.refute.machine import Machine
from kexec_verify.refute.oracle import instructions, iterations
from kexec_verify.refute.path import record
from kexec_verify.refute.scenario import WORD, OutsideError, Scenario
from kexec_verify.refute.violation import Violation
from kexec_verify.specs.kimage import IND_DESTINATION, IND_DONE, IND_SOURCE
from kexec_verify.specs.properties import PROPERTIES

__all__ = ["REFUTABLE", "Counterexample", "Search", "first_fault", "rerun", "search"]

REFUTABLE = frozenset(PROPERTIES) - {"reloc-covered"}
"""Properties that a run can break; coverage of instructions is not about a single run."""

_PATIENCE = 3  # times the instructions that a list needs, after which a run may be endless


class Search:
    """Runs plans on one routine.

    :param variant: the ABI variant of this code.
    """

    def __init__(self, code: Code, variant: AbiVariant):
        self.code, self.variant = code, variant
        self.watch = frozenset({variant.loop, *variant.exits})
        self.machine = Machine(code, self.watch)
        self.head_test = tests_head(code, variant)

    @staticmethod
    def limit(scenario: Scenario) -> int:
        """Return the number of instructions after which a run on this list may be endless.

        :raises OutsideError: if the list machine is not defined on the list.
        """
        return _PATIENCE * instructions(scenario, iterations(scenario)[0])

    def violations(self, scenario: Scenario) -> dict[str, Violation]:
        """Return the properties that the routine breaks in this scenario."""
        run = self.machine.run(scenario, self.limit(scenario))
        return judge(self.code, self.variant, scenario, run)

    def describe(self, scenario: Scenario, violation: Violation) -> Counterexample:
        """Return the counterexample, with the path to the bad effect."""
        limit = self.limit(scenario)
        end = self.machine.run(scenario, limit).end
        run = record(self.code, self.watch, scenario, limit, violation.index)
        earlier = causes(self.code, self.watch, scenario, limit, violation)
        return describe(self.code, scenario, violation, run, end, earlier)

    def shrink(self, plan: Plan, claim: str, deadline: float) -> tuple[Plan, Violation]:
        """Return the smallest plan reached from ``plan`` by single cuts that still breaks ``claim``."""
        violation = self.violations(build(plan, self.variant))[claim]
        progress = True
        while progress and time.process_time() < deadline:
            progress = False
            for smaller in cuts(plan, self.variant.page_size // WORD):
                try:
                    found = self.violations(build(smaller, self.variant))
                except (OutsideError, UnsupportedError):
                    continue
                if claim in found:
                    plan, violation, progress = smaller, found[claim], True
                    break
        return plan, violation


def tests_head(code: Code, variant: AbiVariant) -> bool:
    """Return whether the routine can skip the loop over the list."""
    graph = control_flow(code)
    graph.remove_nodes_from([variant.loop])  # which a faulty routine may never come to
    return any(networkx.has_path(graph, code.address, stop) for stop in variant.exits if stop in graph)


def cuts(plan: Plan, slots: int) -> Iterator[Plan]:
    """Yield slightly simpler plans: without a special feature, without a word."""
    for simpler in (
        replace(plan, el2=False, refuses=False),
        replace(plan, refuses=False),
        replace(plan, kimage=Plan.kimage),
        replace(plan, dminline=Plan.dminline),
        replace(plan, garbage=Plan.garbage),
        replace(plan, ram=Plan.ram),
    ):
        if simpler != plan:
            yield simpler
    for number, (page, words) in enumerate(plan.pages):
        if len(plan.pages) > 1 and number + 1 < len(plan.pages) and plan.well_formed:
            continue  # the last slot of a full page: no word of it can go
        for slot, word in enumerate(words):
            if word.flags == IND_DONE:
                continue
            rest = (page, (*words[:slot], *words[slot + 1 :]))
            smaller = replace(plan, pages=(*plan.pages[:number], rest, *plan.pages[number + 1 :]))
            if not plan.well_formed or is_well_formed(smaller, slots):
                yield smaller
            for lower in _lower(word):
                moved = (page, (*words[:slot], lower, *words[slot + 1 :]))
                smaller = replace(plan, pages=(*plan.pages[:number], moved, *plan.pages[number + 1 :]))
                if not plan.well_formed or is_well_formed(smaller, slots):
                    yield smaller


def _lower(word: Word) -> list[Word]:
    """Return the word with a page of a lower address, where random plans have any."""
    lowest = {IND_DESTINATION: FIRST_DEST, IND_SOURCE: FIRST_SOURCE}.get(word.flags)
    if lowest is None or word.page is None or word.page <= lowest:
        return []
    return [replace(word, page=page) for page in sorted({lowest, word.page - 1})]


def search(
    code: Code,
    variant: AbiVariant,
    wanted: set[str] | None = None,
    budget_seconds: float = 20.0,
    *,
    well_formed_only: bool = False,
    most: int | None = 150,
) -> dict[str, Counterexample]:
    """Return counterexamples by property, each the smallest that was found.

    :param wanted: identifiers of specs.properties; None for all that a run can break.
    :param budget_seconds: of CPU time, so that a busy machine finds the same; at least one list is tried.
    :param well_formed_only: leave out the lists that only the list machine is claimed for.
    :param most: maximum number of lists; None for no limit.
    :raises UnsupportedError: if nothing is found and some run came to an instruction without a model.
    """
    open_claims = set(REFUTABLE if wanted is None else wanted & REFUTABLE)
    deadline = time.process_time() + budget_seconds
    engine = Search(code, variant)
    found: dict[str, Counterexample] = {}
    refused: UnsupportedError | None = None
    for plan in itertools.islice(build_plans(variant, engine.head_test), most):
        if not open_claims:
            break
        if plan.well_formed or not well_formed_only:
            try:
                broken = engine.violations(build(plan, variant))
            except OutsideError:
                continue
            except UnsupportedError as error:  # other lists may show a fault that does not depend on it
                refused = refused or error
                broken = {}
            for claim in sorted(open_claims & set(broken)):
                smallest, violation = engine.shrink(plan, claim, deadline)
                found[claim] = engine.describe(build(smallest, variant), violation)
                open_claims.discard(claim)
        if time.process_time() > deadline:
            break
    if refused is not None and not found:
        raise refused
    return found


def first_fault(code: Code, variant: AbiVariant, budget_seconds: float, most: int) -> Violation | None:
    """Return the first effect that breaks a property on one of the first ``most`` lists; None if none does.

    :raises UnsupportedError: if nothing is found and some run came to an instruction without a model.
    """
    deadline = time.process_time() + budget_seconds
    engine = Search(code, variant)
    refused: UnsupportedError | None = None
    for plan in itertools.islice(build_plans(variant, engine.head_test), most):
        try:
            broken = engine.violations(build(plan, variant))
        except OutsideError:
            continue
        except UnsupportedError as error:
            refused = refused or error
            continue
        if broken:
            return min(broken.values(), key=lambda violation: violation.index)
        if time.process_time() > deadline:
            break
    if refused is not None:
        raise refused
    return None


def rerun(cx: Counterexample, code: Code, variant: AbiVariant) -> bool:
    """Return whether a run from the stored data alone breaks the same property by the same effect."""
    violation = Search(code, variant).violations(cx.scenario).get(cx.property)
    return violation is not None and (violation.at, violation.effect) == (cx.at, cx.effect)
