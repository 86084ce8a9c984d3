"""Calls by contract: what is kept of the caller's state, and what is refused."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import pytest
from kexec_verify.arm64.cache import CLEAN, DIRTY, LOST
from kexec_verify.arm64.execute import Exit, Step
from kexec_verify.arm64.state import FLAGS, State
from kexec_verify.errors import UnsupportedError
from kexec_verify.kexec.calls import CLOBBERED, ENDS, Calls, clobbered, objects
from kexec_verify.kexec.context import KexecContext
from kexec_verify.logic import FALSE, TRUE, Not, const, constant, same, var
from kexec_verify.memory import Unknown
from kexec_verify.prove.discharge import decide
from kexec_verify.specs.contracts import CONTRACTS, Contract, contract
from kexec_verify.specs.kimage import KimageLayout
from kexec_verify.symbolic.objects import Object
from kexec_verify.target import open_target

IMAGE = Path(__file__).resolve().parents[3] / "binaries" / "whole" / "later-4k-gcc.elf"
AT = 0x4000
PLAIN = Contract(("callee",), "Changes nothing.", "test")


@functools.cache
def context() -> KexecContext:
    return KexecContext(open_target(str(IMAGE)), KimageLayout(648), 4096)


def calls() -> Calls:
    return Calls(context(), context().code("machine_kexec"))


def entry() -> State:
    page = Object("page", var("page"), 0, 4096)
    return replace(context().bare_entry("test", page), trace=(AT,))


def address(name: str) -> int:
    symbol = context().kernel.symbol(name)
    assert symbol is not None
    return symbol.address


def called(target: int, kind: str = "call", state: State | None = None) -> list[Step] | None:
    return calls().leave(Step(state or entry(), Exit(kind, const(target))))


def test_a_callee_without_a_contract_is_refused_by_name():
    with pytest.raises(UnsupportedError, match=r"call of el1_sync, which has no contract") as caught:
        called(address("el1_sync"))
    assert caught.value.address == AT


def test_a_callee_without_a_name_is_refused_by_its_place():
    with pytest.raises(UnsupportedError, match=r"call of machine_kexec\+0x4/0x1c8, which has no contract"):
        called(address("machine_kexec") + 4)


def test_a_call_goes_on_behind_it_and_a_tail_call_returns():
    (step,) = called(address("cpus_are_stuck_in_kernel")) or []
    assert step.then == AT + 4
    state = entry()
    (step,) = called(address("cpus_are_stuck_in_kernel"), "br", state) or []
    assert isinstance(step.then, Exit) and step.then.kind == "ret"
    assert same(step.then.target, state.registers["x30"])


def test_a_call_of_a_register_ends_the_function():
    assert calls().leave(Step(entry(), Exit("call", var("x1")))) is None
    assert calls().leave(Step(entry(), Exit("ret", var("x30")))) is None


def test_a_callee_that_does_not_return_must_not_be_reached():
    owner = calls()
    after = owner.apply(replace(PLAIN, returns=False), "callee", entry(), AT)
    (required,) = owner.obligations
    assert required.name == "call-unreached" and required.subject is after.events[-1]
    assert required.goal.is_false()  # no branch leads there: it is reached on every path


def test_what_a_callee_may_change_is_unknown_and_all_else_is_kept():
    before = entry()
    after = calls().apply(replace(PLAIN, changes=("ttbr0_el1", "unsynced")), "callee", before, AT)
    changed = {name for name, value in after.registers.items() if not same(value, before.registers[name])}
    assert changed == {*CLOBBERED, "ttbr0_el1"}
    ghosts = {name for name, value in after.ghosts.items() if not same(value, before.ghosts[name])}
    assert ghosts == {"unsynced", "icache", "unfinished"}
    assert after.memory is before.memory
    assert [event.name for event in after.events] == ["call callee"]


def test_two_calls_leave_different_unknowns():
    one = calls()
    first = one.apply(PLAIN, "callee", entry(), AT)
    second = one.apply(PLAIN, "callee", first, AT)
    assert not same(first.registers["x0"], second.registers["x0"])


def test_what_a_contract_ensures_is_a_fact():
    found = replace(PLAIN, ensures=lambda x, after: after["x0"] == x["x1"])
    before = entry()
    after = calls().apply(found, "callee", before, AT)
    assert decide(after.facts, after.registers["x0"] == before.registers["x1"])
    assert not decide(after.facts, after.registers["x2"] == before.registers["x1"])


def test_an_answer_is_of_the_low_byte_alone():
    state = entry()
    after = calls().apply(replace(PLAIN, answers_stub=True), "callee", state, AT)
    below = context().stub_below(state)
    answer = after.registers["x0"]
    assert decide((*after.facts, ("below", below)), answer[7:0] == 1)
    assert decide((*after.facts, ("not", Not(below))), answer[7:0] == 0)
    assert not decide((*after.facts, ("below", below)), answer[31:0] == 1)


def test_a_range_that_was_cleaned_is_clean_unless_it_was_lost():
    owner, before = calls(), entry()
    found = replace(PLAIN, cleans=lambda x: (x["x0"], x["x1"]))
    after = owner.apply(found, "callee", before, AT)
    word, x = var("word"), before.registers
    inside = (("inside", (x["x0"] == word)), ("order", x["x1"] == word + 8), ("no wrap", word == 0x1000))
    was, now = before.lines.read(word), after.lines.read(word)
    assert decide((*inside, ("was", was == DIRTY)), now == CLEAN)
    assert decide((*inside, ("was", was == LOST)), now == LOST)
    assert decide(inside, after.lines.read(word + 8) == before.lines.read(word + 8))
    assert [obligation.name for obligation in owner.obligations] == ["call-range", "call-range"]
    assert not any(decide((), obligation.goal) for obligation in owner.obligations)


def test_a_range_is_fetchable_only_where_its_data_is_clean():
    before = entry()
    after = calls().apply(replace(PLAIN, fetches=lambda x: (x["x0"], x["x1"])), "callee", before, AT)
    word, x = var("word"), before.registers
    inside = (("inside", x["x0"] == word), ("order", x["x1"] == word + 8), ("no wrap", word == 0x1000))
    stale = ("stale", before.fetch.read(word) == DIRTY)
    assert decide(
        (*inside, stale, ("clean", before.lines.read(word) == CLEAN)), after.fetch.read(word) == CLEAN
    )
    assert decide(
        (*inside, stale, ("dirty", before.lines.read(word) == DIRTY)), after.fetch.read(word) == DIRTY
    )


def test_a_word_that_a_callee_fills_is_unknown_and_no_longer_clean():
    page = var("page")
    before = entry().with_registers(x1=page + 8)
    after = calls().apply(replace(PLAIN, fills=("x1",)), "callee", before, AT)
    assert not same(after.memory.load(page + 8, 8), before.memory.load(page + 8, 8))
    assert same(after.memory.load(page + 16, 8), before.memory.load(page + 16, 8))
    facts = (
        ("was clean", before.lines.read(page + 8) == CLEAN),
        ("was fetchable", before.fetch.read(page + 8) == CLEAN),
        ("cached", before.cacheable),
    )
    assert decide(facts, after.lines.read(page + 8) == DIRTY)
    assert decide(facts, after.fetch.read(page + 8) == DIRTY)


def test_a_callee_that_fills_what_no_object_is_is_refused():
    with pytest.raises(UnsupportedError, match="no known object"):
        calls().apply(replace(PLAIN, fills=("x1",)), "callee", entry(), AT)


def test_memory_of_words_is_not_c_codes():
    with pytest.raises(UnsupportedError):
        objects(replace(entry(), memory=Unknown("M")))


def test_a_warn_goes_on_and_a_bug_ends():
    owner = calls()
    code = owner.code
    owner.code = type(code)(code.name, code.address, code.data, True, frozenset({AT}))
    (step,) = owner.leave(Step(entry(), Exit("brk", const(0x800)))) or []
    assert step.then == AT + 4 and list(owner.warned) == [AT]
    assert calls().leave(Step(entry(), Exit("brk", const(0x800)))) is None


@pytest.mark.parametrize("found", CONTRACTS, ids=lambda found: found.names[0])
def test_a_clone_fits_only_a_contract_that_speaks_of_no_argument(found):
    speaks = (
        *(found.ensures, found.cleans, found.fetches, found.asks, found.copies),
        *(found.answers_stub, found.fills, found.points, found.texts),
    )
    for name in found.names:
        assert contract(name) is found
        for clone in (f"{name}.constprop.0", f"{name}.isra.0.part.1"):
            assert (contract(clone) is None) == any(speaks)


def test_other_names_have_no_contract():
    assert contract("memcpy_toio") is None and contract("") is None


def test_a_brk_of_no_table_is_refused():
    kernel = context().kernel
    warned = KexecContext(kernel, KimageLayout(648), 4096)
    assert warned.code("machine_kexec").warnings
    at = address("machine_kexec")
    stray = kernel.patched(at, (0xD4210000).to_bytes(4, "little"))
    with pytest.raises(UnsupportedError, match="not known as a BUG or a WARN") as caught:
        KexecContext(stray, KimageLayout(648), 4096).code("machine_kexec")
    assert caught.value.address == at
    other = kernel.patched(at, (0xD4200020).to_bytes(4, "little"))  # brk #1 is neither
    assert KexecContext(other, KimageLayout(648), 4096).code("machine_kexec").warnings


def test_constant_of_the_call_is_an_argument_of_its_event():
    (step,) = called(address("cpus_are_stuck_in_kernel"), state=entry().with_registers(x0=const(7))) or []
    assert constant(step.state.events[-1].operands[0]) == 7


def test_what_a_callee_does_not_write_is_kept_where_that_is_required_of_it():
    def kept(name: str, found: Contract | None = None) -> set[str]:
        found = found or contract(name)
        assert found is not None
        return set(CLOBBERED) - set(clobbered(context(), name, found))

    leaf = contract("is_hyp_nvhe")
    assert leaf is not None and {"x5", "x18"} <= kept("is_hyp_nvhe")
    assert not {"x0", "x30", *FLAGS} & kept("is_hyp_nvhe")
    assert kept("is_hyp_nvhe", replace(leaf, assumed=True)) == set()
    assert kept("__hyp_set_vectors") == set()  # EL2 may change x0 to x17
    assert kept("machine_kexec", leaf) == set()  # it calls others
    assert kept("memcpy") == set()

    before = entry()
    (step,) = called(address("is_hyp_nvhe"), state=before) or []
    for name in ("x5", "x18"):
        assert same(step.state.registers[name], before.registers[name])
    assert not same(step.state.registers["x0"], before.registers["x0"])


def test_a_pointer_that_a_callee_reads_at_must_be_to_an_object_with_room():
    owner = calls()
    found = replace(PLAIN, points={"x1": "mm_struct"})
    low = context().globals.low
    for pointer, right in ((low, True), (context().globals.high - 8, False)):
        owner.apply(found, "callee", entry().with_registers(x1=const(pointer)), AT)
        required = owner.obligations.pop()
        assert required.name == "call-pointer" and decide(required.hypotheses, required.goal) is right
    with pytest.raises(UnsupportedError, match="no known object"):
        owner.apply(found, "callee", entry().with_registers(x1=const(low - 8)), AT)


def test_a_word_that_a_callee_sets_must_be_one_that_the_caller_may_store_to():
    owner, state = calls(), entry()
    found = replace(PLAIN, fills=("x1",))
    cases = ((-8, -16, TRUE, True), (-8, -16, FALSE, False), (0, -16, TRUE, False), (-8, 0, TRUE, False))
    for offset, pushed, own, right in cases:
        owner.own = lambda name, own=own: own if name == "the stack frame" else FALSE
        sp = state.registers["sp"]
        owner.apply(found, "callee", state.with_registers(x1=sp + const(offset), sp=sp + const(pushed)), AT)
        required = owner.obligations.pop()
        assert required.name == "call-pointer" and decide(required.hypotheses, required.goal) is right


def test_two_functions_of_one_name_are_two_contracts():
    owner, target = calls(), address("is_hyp_nvhe")
    name, found = owner.callee(target, AT)
    owner.used[name] = (target + 4, PLAIN)
    owner.leave(Step(entry(), Exit("call", const(target))))
    assert owner.used == {name: (target + 4, PLAIN), f"{name}@{target:#x}": (target, found)}


def test_a_page_that_kexec_takes_is_assumed_to_leave_the_callers_objects_alone():
    found = contract("kexec_page_alloc")
    assert found is not None and found.assumed
    before = entry()
    after = calls().apply(found, "kexec_page_alloc", before, AT)
    assert after is not None and after.memory is before.memory


def test_what_is_printed_must_be_something_of_the_image():
    owner, state = calls(), entry()
    found = replace(PLAIN, texts=("x0",))
    inside = const(address("memcpy"))
    for pointer, right in ((inside, True), (const(0x1234), False), (var("anywhere"), False)):
        owner.apply(found, "callee", state.with_registers(x0=pointer), AT)
        required = owner.obligations.pop()
        assert required.name == "call-pointer" and decide(required.hypotheses, required.goal) is right


NEVER = ("branch at 0x3ffc is taken", var("asked") != var("asked"))
"""A branch condition that contradicts itself."""


def deciding(guessing: bool = False) -> Calls:
    found = context()
    return Calls(found, found.code("machine_kexec"), decide=decide, guessing=guessing)


@pytest.mark.parametrize("name", ["el1_sync", "is_hyp_nvhe"])
def test_a_call_that_no_state_reaches_must_be_proved_unreachable(name, monkeypatch):
    """It has no contract, or one that says that it reports an error of the program."""
    known = contract(name)
    if known is not None:
        monkeypatch.setattr(Calls, "callee", lambda *_: (name, replace(known, reports=True)))
    owner, state = deciding(), entry().assume(NEVER)
    (step,) = owner.leave(Step(state, Exit("call", const(address(name))))) or []
    assert isinstance(step.then, Exit) and step.then.kind == ENDS
    (required,) = owner.obligations
    assert required.name == "call-unreached" and owner.used == {}
    assert decide(required.hypotheses, required.goal)


def test_a_call_without_a_contract_that_a_state_reaches_is_refused():
    owner = deciding()
    with pytest.raises(UnsupportedError, match="which has no contract"):
        owner.leave(Step(entry(), Exit("call", const(address("el1_sync")))))
    assert owner.obligations == []


def test_a_call_of_what_reports_an_error_is_by_contract_where_a_state_reaches_it(monkeypatch):
    reports = replace(PLAIN, reports=True, assumed=True, texts=())
    monkeypatch.setattr(Calls, "callee", lambda *_: ("el1_sync", reports))
    owner = deciding()
    (step,) = owner.leave(Step(entry(), Exit("call", const(address("el1_sync"))))) or []
    assert step.then == AT + 4 and "el1_sync" in owner.used


def test_a_guess_ends_at_a_call_that_may_be_unreachable_and_owes_nothing():
    owner = deciding(guessing=True)
    (step,) = owner.leave(Step(entry(), Exit("call", const(address("el1_sync"))))) or []
    assert isinstance(step.then, Exit) and step.then.kind == ENDS
    assert owner.obligations == []


@pytest.mark.parametrize("handler", ["out_of_bounds", "shift_out_of_bounds", "load_invalid_value"])
def test_undefined_behaviour_is_reported_by_a_callee_that_returns(handler):
    found = contract(f"__ubsan_handle_{handler}")
    assert found is not None
    assert (found.reports, found.assumed, found.returns, found.texts) == (True, True, True, ("x0",))
