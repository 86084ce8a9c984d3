"""The induction over the list: proved for each page size, and from nothing less than is supposed."""

from __future__ import annotations

import pytest
from kexec_verify.kexec import list_induction
from kexec_verify.logic import TRUE
from kexec_verify.prove.discharge import Discharger, vacuous
from kexec_verify.prove.smtlib import script
from kexec_verify.prove.solvers import Answer, ask_bitwuzla
from kexec_verify.specs.kimage import WellFormed
from kexec_verify.verdict import Verdict

PAGE = 4096

# promise -> obligations that have a counterexample without it
NEEDED = {
    "W3": {"reloc-terminates-list"},
    "W4": {"reloc-dest-pages-offset"},
    "W5": {"reloc-dest-pages-exit", "reloc-dest-pages-contents"},
    "W6": {"reloc-dest-pages-contents"},
    "W7": {"reloc-dest-pages-list-intact"},
}


def refutable(obligations) -> set[str]:
    return {o.name for o in obligations if ask_bitwuzla(script(o.hypotheses, o.goal)).answer is Answer.SAT}


@pytest.mark.parametrize("page_size", [4096, 16384, 65536])
def test_induction_is_proved_by_both_solvers(page_size):
    results = Discharger().discharge(list_induction.build(page_size))
    assert [r.obligation.sentence for r in results if r.verdict is not Verdict.PROVED] == []
    assert all({reply.solver for reply in r.replies} == {"z3", "bitwuzla"} for r in results)


def test_no_step_of_the_induction_is_idle():
    results = Discharger().discharge(list_induction.build(PAGE))
    assert [r.obligation.sentence for r in results if r.idle] == []
    assert vacuous(results) == []


@pytest.mark.parametrize("promise", NEEDED)
def test_each_promise_of_a_well_formed_list_is_needed(monkeypatch, promise):
    monkeypatch.setattr(WellFormed, promise, lambda self, *indices: TRUE)
    assert refutable(list_induction.build(PAGE)) == NEEDED[promise]


@pytest.mark.parametrize("index", range(len(list_induction.build(PAGE))))
def test_no_goal_follows_without_its_hypotheses(index):
    required = list_induction.build(PAGE)[index]
    assert ask_bitwuzla(script((), required.goal)).answer is Answer.SAT


def test_obligations_are_named():
    assert {o.name for o in list_induction.build(PAGE)} == {
        "reloc-dest-pages-offset",
        "reloc-dest-pages-contents",
        "reloc-dest-pages-history",
        "reloc-dest-pages-complete",
        "reloc-dest-pages-list-intact",
        "reloc-dest-pages-init",
        "reloc-dest-pages-exit",
        "reloc-dest-pages-frame",
        "reloc-terminates-list",
    }
