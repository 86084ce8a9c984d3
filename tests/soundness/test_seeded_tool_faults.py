"""One error in the tool at a time: a check of the suite fails for it, so the error would be seen.

Either the correct routine is no longer proved, or a wrong one, which the sound tool does
not prove, now is: that is what the mutants of the suite watch for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from kexec_verify import theorems
from kexec_verify.arm64 import execute as execution
from kexec_verify.arm64 import system
from kexec_verify.arm64.lift import Code
from kexec_verify.errors import InternalError
from kexec_verify.kexec.locate import find_routine
from kexec_verify.kexec.routine import Routine
from kexec_verify.logic import FALSE, TRUE, If, Not, const, difference, ult, var
from kexec_verify.memory import Copied, Written
from kexec_verify.obligation import Obligation
from kexec_verify.prove import smtlib, solvers
from kexec_verify.prove.discharge import Discharger
from kexec_verify.prove.solvers import Answer, Reply
from kexec_verify.specs.properties import RELOCATION
from kexec_verify.symbolic import explore
from kexec_verify.target import open_target
from kexec_verify.verdict import Verdict

pytestmark = pytest.mark.toolfault

PROPERTIES = {claim.id: claim for claim in RELOCATION}
BINARIES = Path(__file__).resolve().parents[2] / "binaries"
NOP, MOV_X0_X2 = 0xD503201F, 0xAA0203E0


@pytest.fixture(scope="module")
def routine() -> Code:
    found = find_routine(open_target(str(BINARIES / "kimage-mmu-4k-gcc.elf")))
    return Code(found.name, found.address, found.code)


def verdicts(code: Code, *names: str) -> dict[str, Verdict]:
    """Verdicts on the properties by themselves: without those that they rest on, and without a search."""
    outcome = theorems.prove(code, [PROPERTIES[name] for name in names], search_seconds=0)
    return {finding.claim.id: finding.verdict for finding in outcome.findings}


def proved(code: Code, *names: str) -> bool:
    return set(verdicts(code, *names).values()) == {Verdict.PROVED}


def find(code: Code, text: str, nth: int = 0) -> int:
    return [address for address in code.addresses if code.at(address).text == text][nth]


def test_sound_tool_proves_the_routine(routine):
    assert proved(routine, *PROPERTIES)


# Solvers


def test_unknown_taken_for_unsat(monkeypatch):
    p, q = var("p", 128), var("q", 128)
    product = 0x2876A25E206F5C67 * 0x3A8DD4E45C76F18B
    hypotheses = tuple((f"h{i}", h) for i, h in enumerate([ult(1, p), ult(p, q), ult(q, 1 << 62)]))
    wrong = Obligation("wrong", "this number is no product", hypotheses, p * q != product)

    def verdict() -> Verdict:
        return Discharger(limit=0.05).discharge([wrong])[0].verdict

    assert verdict() is Verdict.UNKNOWN
    for name in ("ask_z3", "ask_bitwuzla"):
        sound = getattr(solvers, name)

        def ask(*asked: object, sound: Callable[..., Reply] = sound) -> Reply:
            reply = sound(*asked)
            return replace(reply, answer=Answer.UNSAT) if reply.answer is Answer.UNKNOWN else reply

        monkeypatch.setattr(solvers, name, ask)
    assert verdict() is Verdict.PROVED


@pytest.mark.parametrize("solver, error", [("ask_bitwuzla", InternalError), ("ask_z3", None)])
def test_solver_that_always_says_unsat_does_not_prove_alone(monkeypatch, solver, error):
    x = var("x")
    wrong = Obligation("wrong", "x is 0", (), x == 0)
    monkeypatch.setattr(solvers, solver, lambda *asked: Reply(solver, Answer.UNSAT, 0.0))
    if error is not None:
        with pytest.raises(error, match="contradict each other on wrong"):
            Discharger().discharge([wrong])
    else:
        assert Discharger().discharge([wrong])[0].verdict is not Verdict.PROVED


@pytest.mark.parametrize("operator, wrong", [("ULT", "bvslt"), ("ULE", "bvult"), ("__add__", "bvsub")])
def test_operator_printed_wrongly(monkeypatch, routine, operator, wrong):
    monkeypatch.setitem(smtlib._OPERATORS, operator, wrong)
    names = ("reloc-step", "reloc-terminates", "reloc-memory-safe", "reloc-clean-to-poc")
    assert not proved(routine, *names)


# Instructions


@pytest.mark.parametrize(
    "meaning, names",
    [
        ("DataSynchronizationBarrier", ("reloc-clean-to-poc", "reloc-icache-invalid")),
        ("InstructionSynchronizationBarrier", ("reloc-context-synced", "reloc-break-before-make")),
        ("DC_CIVAC", ("reloc-step",)),
        ("IC_IALLU", ("reloc-icache-invalid",)),
        ("TLBI_VMALLE1", ("reloc-break-before-make",)),
    ],
)
def test_system_instruction_skipped(monkeypatch, routine, meaning, names):
    monkeypatch.setitem(system.MEANING, meaning, system.nothing)
    found = verdicts(routine, *names)
    assert [name for name in names if found[name] is Verdict.PROVED] == []


@pytest.mark.parametrize("meaning", ["DC_CIVAC", "IC_IALLU", "TLBI_VMALLE1", "CallHyperVisor"])
def test_system_instruction_without_a_meaning(monkeypatch, routine, meaning):
    monkeypatch.delitem(system.MEANING, meaning)
    assert set(verdicts(routine, "reloc-covered", "reloc-entry-state").values()) == {Verdict.UNSUPPORTED}


def test_hvc_that_clobbers_nothing(monkeypatch, routine):
    # dtb is in x2 before the HVC; a refused HVC may have changed it.
    wrong = routine.patched(find(routine, "mov x0, x23"), MOV_X0_X2)
    hvc = find(routine, "hvc 0x0")

    def failing_after_hvc() -> set[str]:
        (finding,) = theorems.prove(wrong, [PROPERTIES["reloc-entry-state"]], search_seconds=0).findings
        return {result.obligation.name for result in finding.failing if hvc in result.obligation.path}

    assert failing_after_hvc() == {"reloc-entry-registers"}
    monkeypatch.setitem(system.MEANING, "CallHyperVisor", system.nothing)
    assert failing_after_hvc() == set()


def test_instruction_cache_invalidated_before_the_stores_are_done(monkeypatch, routine):
    wrong = routine.patched(find(routine, "ic IALLU") - 4, NOP)  # no dsb before it
    # The page's own `dsb sy` comes after the copy, so only without it are stores unfinished.
    wrong = wrong.patched(find(routine, "dsb SY"), NOP)
    assert not proved(wrong, "reloc-icache-invalid")

    def forgetful(state, operands, at):
        return state.with_ghosts(icache=const(1, 2), unsynced=const(1, 1))

    monkeypatch.setitem(system.MEANING, "IC_IALLU", forgetful)
    assert proved(wrong, "reloc-icache-invalid")


def test_system_register_write_that_needs_no_isb(monkeypatch, routine):
    wrong = routine.patched(find(routine, "msr sctlr_el1, x5") + 4, NOP)
    assert not proved(wrong, "reloc-context-synced")
    monkeypatch.setattr(system, "CONTEXT_REGISTERS", frozenset())
    assert proved(wrong, "reloc-context-synced")


# Paths


@pytest.mark.parametrize("kept", [0, -1])
def test_successor_of_a_conditional_branch_forgotten(monkeypatch, routine, kept):
    def one_way(instruction, state, el):
        yield [*execution.execute(instruction, state, el)][kept]

    monkeypatch.setattr(explore, "execute", one_way)
    assert not proved(routine, "reloc-covered")


def test_branch_conditions_forgotten(monkeypatch, routine):
    monkeypatch.setattr(execution, "_branch", lambda run, condition, label: run)
    assert not proved(routine, "reloc-step")


# Memory


def test_store_ignored(monkeypatch, routine):
    monkeypatch.setattr(Written, "_read", lambda self, address: self.below.read(address))
    assert not proved(routine, "reloc-step")


def test_store_read_at_every_address(monkeypatch, routine):
    monkeypatch.setattr(Written, "_read", lambda self, address: self.value)
    assert not proved(routine, "reloc-step")


@pytest.mark.parametrize("error", [8, -8])
def test_copy_ends_a_word_off(monkeypatch, routine, error):
    def read(self, address):
        offset = difference(address, self.dest)
        copied = self.origin.read(self.source + offset)
        return If(ult(offset, self.length + error), copied, self.below.read(address))

    monkeypatch.setattr(Copied, "_read", read)
    assert not proved(routine, "reloc-step")


# Assumptions


@pytest.mark.parametrize("index", range(4))
def test_assumption_contradicted(monkeypatch, routine, index):
    sound = Routine.assumptions

    def contradicted(self):
        facts = sound(self)
        label, formula = facts[index]
        return (*facts, (label, Not(formula)))

    monkeypatch.setattr(Routine, "assumptions", contradicted)
    found = verdicts(routine, "reloc-entry-state", "reloc-icache-invalid", "reloc-context-synced")
    assert Verdict.PROVED not in found.values()
    assert Verdict.VACUOUS in found.values()


def test_false_assumption_makes_every_proof_vacuous(monkeypatch, routine):
    sound = Routine.assumptions
    monkeypatch.setattr(Routine, "assumptions", lambda self: (*sound(self), ("daif-masked", FALSE)))
    names = [name for name in PROPERTIES if name not in ("reloc-covered", "reloc-dest-pages")]
    found = verdicts(routine, *names)
    assert {name: verdict for name, verdict in found.items() if verdict is Verdict.PROVED} == {}


def test_assumption_dropped(monkeypatch, routine):
    """What the obligations suppose is needed: without the assumptions the routine is not proved."""
    monkeypatch.setattr(Routine, "assumptions", lambda self: ())
    assert not proved(routine, "reloc-entry-state")


def test_goal_that_is_always_true(monkeypatch, routine):
    """An exit that goes anywhere is proved by a tool that owes nothing for it: a mutant tells."""
    wrong = routine.patched(find(routine, "br x22"), 0xD61F02E0)  # br x23
    assert not proved(wrong, "reloc-entry-state")
    sound = Routine.require

    def lenient(self, name, sentence, hypotheses, goal, at=None, path=()):
        sound(self, name, sentence, hypotheses, TRUE, at, path)

    monkeypatch.setattr(Routine, "require", lenient)
    assert proved(wrong, "reloc-entry-state")
