"""Chains, values and confirmed runs, on the shipped images and on copies of their code made wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from kexec_verify.arm64.execute import Exit
from kexec_verify.errors import InternalError
from kexec_verify.kexec.context import KexecContext
from kexec_verify.kexec.locate import find_routine
from kexec_verify.kexec.post_load import PostLoad
from kexec_verify.kexec.soft_restart import SoftRestart
from kexec_verify.logic import FALSE, constant, same, var
from kexec_verify.obligation import Obligation
from kexec_verify.prove.discharge import Discharger, decide
from kexec_verify.refute.functions import values as values_module
from kexec_verify.refute.functions.chain import chains, places, routes
from kexec_verify.refute.functions.confirm import confirm, inputs
from kexec_verify.refute.functions.record import format_call, rerun
from kexec_verify.refute.functions.search import refute, witnesses
from kexec_verify.refute.functions.values import solve
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.target import open_target

WHOLE = Path(__file__).resolve().parents[4] / "binaries" / "whole"


@pytest.fixture(scope="module")
def context() -> KexecContext:
    return KexecContext(open_target(str(WHOLE / "later-4k-gcc.elf")), KimageLayout(648), 4096)


@pytest.fixture(scope="module")
def post_load(context) -> PostLoad:
    proof = PostLoad(context, decide, find_routine(context.kernel), through_routine=False, mmu_on=True)
    proof.prove()
    return proof


@pytest.fixture(scope="module")
def restart(context) -> SoftRestart:
    proof = SoftRestart(context, decide)
    proof.prove()
    return proof


def returning(proof):
    """The return of the path that has flushed the segments, and the place of what is owed there."""
    step = next(s for s in proof.segments[-1].ends if isinstance(s.then, Exit) and s.then.kind == "ret")
    asked = Obligation("asked", "", (), FALSE, step.state.trace[-1], step.state.trace)
    return next(places(proof, asked))


def test_routes_start_at_the_entry_and_take_each_loop_some_iterations(post_load):
    loop = len(post_load.segments) - 1
    taken = [[number for number, _ in route] for route in routes(post_load.segments, loop)]
    assert all(route[0] == 0 for route in taken)
    assert [0] in taken and [0, loop] in taken and [0, loop, loop] in taken


def test_a_chain_speaks_of_the_entry_and_of_answers_alone(post_load):
    place = returning(post_load)
    chain = list(chains(post_load, place, 10))[-1]
    iterations = sum(1 for link in chain.links if link.segment.iterations)
    assert iterations >= 2
    assert constant(chain.bind(place.state.registers["sp"])) is not None
    names = {name for _, fact in chain.facts for name in fact.variables}
    head = f"@{post_load.segments[-1].at:#x}"
    assert not [name for name in names if name.endswith((head, f"{head}/entry"))]


def test_each_iteration_has_answers_of_its_own(post_load):
    chain = max(chains(post_load, returning(post_load), 10), key=lambda chain: len(chain.links))
    iterations = [link for link in chain.links if link.segment.iterations]
    tags = [{event.tag for event in link.state.events} - {None} for link in iterations]
    (shared,) = tags[0] & tags[1]
    answer = var(f"x0@{shared}")
    assert not same(iterations[0].bind(answer), iterations[1].bind(answer))
    assert same(
        iterations[0].bind(post_load.image.nr_segments), iterations[1].bind(post_load.image.nr_segments)
    )


def test_a_run_that_differs_from_its_path_is_an_internal_error(post_load):
    place = returning(post_load)
    chain, values = next(
        (chain, values) for chain in chains(post_load, place, 10) if (values := solve(chain)) is not None
    )
    given = inputs(chain, values)
    assert confirm(chain, values, given).left.kind == "ret"
    for changed in (
        {"registers": given.registers | {"x19": 1}},
        {"registers": given.registers | {"vbar_el2": 1}},
        {"memory": {}},
        {"answers": given.answers[:-1]},
    ):
        different = {name: getattr(given, name) for name in given.__struct_fields__} | changed
        with pytest.raises(InternalError):
            confirm(chain, values, type(given)(**different))


def test_other_bytes_than_the_proof_is_about_are_an_internal_error(restart):
    step = restart.segments[0].ends[0]
    asked = Obligation("asked", "", (), FALSE, step.state.trace[-1], step.state.trace)
    chain = next(chains(restart, next(places(restart, asked)), 1))
    values = solve(chain)
    given = inputs(chain, values)
    confirm(chain, values, given)
    move = next(at for at in step.state.trace if restart.code.at(at).text == "mov x0, x2")
    right, nop = restart.code, 0xD503_201F
    restart.code = right.patched(move, nop)
    try:
        with pytest.raises(InternalError):
            confirm(chain, values, given)
    finally:
        restart.code = right


def test_a_goal_that_is_false_is_refuted_and_can_be_repeated(context, restart):
    (result,) = [
        r for r in Discharger(5).discharge(restart.obligations) if r.obligation.name == "restart-el1"
    ][:1]
    registers = restart.entry.registers
    wrong = dataclasses.replace(result.obligation, goal=registers["x2"] == 0x1234, sentence="x2 is 0x1234")
    shown = refute(restart, dataclasses.replace(result, obligation=wrong), "a-property")
    assert shown is not None and shown.function == "cpu_soft_restart"
    assert shown.given.registers["x2"] != 0x1234
    record = shown.as_dict()
    assert {
        "kind",
        "function",
        "property",
        "obligation",
        "inputs",
        "expected",
        "found",
        "effect",
        "at",
    } <= set(record)
    assert record["kind"] == "call" and [*record["steps"][0]] == ["address", "text", "changed"]
    assert rerun(record, context.kernel.read) == shown
    assert "a-property" in format_call(shown)[0]
    record["given"]["registers"]["x2"] = 0x1234
    with pytest.raises(InternalError):
        rerun(record, context.kernel.read)


def test_a_goal_that_holds_is_not_refuted(restart):
    for result in Discharger(5).discharge(restart.obligations):
        assert refute(restart, result, "a-property") is None


def test_every_path_of_the_restart_code_has_a_witness(restart):
    paths = [step.state.trace for step in restart.segments[0].ends]
    found = witnesses(restart, paths)
    assert all(inputs is not None for inputs in found.values()) and len(found) == 2
    assert any(inputs.get("x0") for inputs in found.values())


class Stored:
    """Models in memory."""

    def __init__(self):
        self.models: dict[str, dict[str, int]] = {}

    def find_model(self, key):
        return self.models.get(key)

    def keep_model(self, key, model):
        self.models[key] = model


def test_a_stored_model_is_used_only_if_it_is_one(restart, monkeypatch):
    chain = next(iter(chains(restart, returning_or_last(restart), 1)))
    stored, asked = Stored(), []
    sound = values_module.simplest_model

    def counted(*args):
        asked.append(args)
        return sound(*args)

    monkeypatch.setattr(values_module, "simplest_model", counted)
    first = solve(chain, models=stored)
    again = solve(chain, models=stored)
    assert first is not None and again is not None and len(asked) == len(stored.models) == 1
    assert (first.variables, first.functions) == (again.variables, again.functions)
    confirm(chain, again, inputs(chain, again))
    (key,) = stored.models
    assert "0x" not in key
    # Any other values are refused, and the solver is asked again.
    facts = chain.facts
    assert facts
    stored.models[key] = {name: value ^ 0xFF for name, value in stored.models[key].items()}
    wrong = stored.models[key]
    repaired = solve(chain, models=stored)
    assert repaired is not None and len(asked) == 2 and stored.models[key] != wrong
    assert all(repaired(fact) for _, fact in facts)


def returning_or_last(proof):
    """The end of the proof's first path."""
    step = proof.segments[-1].ends[0]
    asked = Obligation("asked", "", (), FALSE, step.state.trace[-1], step.state.trace)
    return next(places(proof, asked))
