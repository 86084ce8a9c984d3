"""Each assumption, contradicted on purpose, turns a run VACUOUS: nothing is proved from nonsense."""

import functools
from collections.abc import Iterable
from pathlib import Path

import pytest
from kexec_verify.arm64.lift import Code
from kexec_verify.kexec.abi_variant import recognise
from kexec_verify.kexec.composition import Composition
from kexec_verify.kexec.locate import find_routine
from kexec_verify.logic import Not
from kexec_verify.obligation import Obligation
from kexec_verify.prove.discharge import Discharger, decide, vacuous
from kexec_verify.specs.assumptions import ASSUMPTIONS
from kexec_verify.specs.properties import RELOCATION
from kexec_verify.target import open_target
from kexec_verify.theorems import prove
from kexec_verify.verdict import Verdict

pytestmark = pytest.mark.toolfault

BINARIES = Path(__file__).resolve().parents[2] / "binaries"
STATED = {
    "kimage-mmu-4k-gcc": {
        "list-head",
        "list-defined",
        "list-well-formed",
        "pages-below-top",
        "kimage-aligned",
        "phys-offset-aligned",
        "mmu-on",
        "context-synced",
        "daif-masked",
        "ctr-legal",
    },
    "regs-no-test-4k-gcc": {"mmu-off"},
}


class Contradicting(Discharger):
    """Discharges every obligation that supposes ``label`` with the opposite supposed as well."""

    def __init__(self, label: str):
        super().__init__()
        self.label = label

    def begin(self, obligations: Iterable[Obligation]):
        return super().begin([self._contradicted(obligation) for obligation in obligations])

    def _contradicted(self, required: Obligation) -> Obligation:
        opposite = tuple((name, Not(fact)) for name, fact in required.hypotheses if name == self.label)
        hypotheses = (*required.hypotheses, *opposite[:1])
        return Obligation(
            required.name, required.sentence, hypotheses, required.goal, required.at, required.path
        )


def load(stem: str) -> Code:
    found = find_routine(open_target(str(BINARIES / f"{stem}.elf")))
    return Code(found.name, found.address, found.code)


@pytest.mark.parametrize(
    ("stem", "label"), [(stem, label) for stem, labels in STATED.items() for label in sorted(labels)]
)
def test_contradicted_assumption_makes_the_run_vacuous(stem: str, label: str):
    outcome = prove(load(stem), RELOCATION, discharger=Contradicting(label), search_seconds=0)
    verdicts = {finding.verdict for finding in outcome.findings}
    assert Verdict.VACUOUS in verdicts
    assert not [
        f.claim.id for f in outcome.findings if f.verdict is Verdict.PROVED and label in f.assumptions
    ]


def test_every_assumption_that_a_formula_states_is_contradicted_above():
    stated = set()
    for stem in STATED:
        outcome = prove(load(stem), RELOCATION, search_seconds=0)
        hypotheses = (r.obligation.hypotheses for f in outcome.findings for r in f.results)
        stated |= {label for facts in hypotheses for label, _ in facts} & set(ASSUMPTIONS)
    assert stated == set().union(*STATED.values())


WAY_STATED = {
    "later-4k-gcc": {
        "control-page-linear",
        "ctr-legal",
        "image-in-memory",
        "kimage-aligned",
        "kimage-in-linear-map",
        "kimage-zeroed",
        "linear-map-kept",
        "little-endian",
        "machine-quiet",
        "memstart-aligned",
        "mmu-on",
        "nothing-lost",
        "nr-segments",
        "objects-apart",
        "refused-call-keeps",
        "segments-apart",
        "segments-in-memory",
        "stack-aligned",
        "t0sz-in-range",
        "tables-in-memory",
    },
    "seed-after-4k-gcc": {"list-apart", "list-in-memory", "list-one-flag", "list-well-formed"},
}


@functools.cache
def composition(stem: str) -> Composition:
    kernel = open_target(str(BINARIES / "whole" / f"{stem}.elf"))
    routine = find_routine(kernel)
    found = Composition(kernel, recognise(Code(routine.name, routine.address, routine.code)), routine, decide)
    found.build()
    return found


@pytest.mark.parametrize(
    ("stem", "label"), [(stem, label) for stem, labels in WAY_STATED.items() for label in sorted(labels)]
)
def test_contradicted_assumption_of_the_c_code_proves_nothing(stem: str, label: str):
    required = [o for part in composition(stem).parts.values() for o in part.obligations]
    required = [o for o in required if any(name == label for name, _ in o.hypotheses)]
    results = Contradicting(label).discharge(required)
    assert results
    assert all(result.idle for result in results)
    assert set(vacuous(results)) == {result.obligation.name for result in results}


def test_every_stated_assumption_of_the_c_code_is_contradicted_here():
    stated = {
        label
        for stem in WAY_STATED
        for part in composition(stem).parts.values()
        for obligation in part.obligations
        for label, _ in obligation.hypotheses
        if label in ASSUMPTIONS
    }
    assert stated == set().union(*WAY_STATED.values()) | {"daif-masked"} & stated
