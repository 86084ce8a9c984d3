"""What each barrier, maintenance instruction and system register write does to the ghost state."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kexec_verify.arm64.cache import CLEAN, DIRTY, LOST, PENDING
from kexec_verify.arm64.execute import execute
from kexec_verify.arm64.lift import decode
from kexec_verify.arm64.state import (
    GHOSTS,
    ICACHE_COMPLETE,
    ICACHE_INVALID,
    ICACHE_PENDING,
    ICACHE_STALE,
    TRANSLATION_INVALIDATED,
    TRANSLATION_INVALIDATING,
    TRANSLATION_SETTLED,
    TRANSLATION_SYNCED,
    TRANSLATION_WRITTEN,
    UNSYNCED,
    State,
    synced,
)
from kexec_verify.arm64.system import MEANING
from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import const, constant, same, var
from kexec_verify.symbolic.loops import generic_state

DSB = {
    "sy": 0xD5033F9F,
    "st": 0xD5033E9F,
    "ld": 0xD5033D9F,
    "ish": 0xD5033B9F,
    "ishst": 0xD5033A9F,
    "ishld": 0xD503399F,
    "nsh": 0xD503379F,
    "nshst": 0xD503369F,
    "nshld": 0xD503359F,
    "osh": 0xD503339F,
    "oshst": 0xD503329F,
    "oshld": 0xD503319F,
}
DMB, ISB = 0xD5033FBF, 0xD5033FDF
DC_CIVAC, DC_CVAC, DC_IVAC = 0xD50B7E20, 0xD50B7A20, 0xD5087620
IC_IALLU, TLBI_VMALLE1, HVC = 0xD508751F, 0xD508871F, 0xD4000002
STR = 0xF9000020  # str x0, [x1]
MSR = {"sctlr_el1": 0xD5181000, "ttbr0_el1": 0xD5182000, "ttbr1_el1": 0xD5182020, "tcr_el1": 0xD5182040}
CACHED, UNCACHED = 5, 0
PAGE = 0x8000


class Everywhere:
    """Line states that are one constant at every address."""

    def __init__(self, value):
        self.value = value

    def read(self, address):
        return self.value


def start(lines=CLEAN, sctlr: int = CACHED, **ghosts) -> State:
    state = generic_state().with_registers(sctlr_el1=const(sctlr), x0=const(PAGE), x1=const(PAGE))
    ghosts = {"unsynced": 0, "unfinished": 0, "icache": 0, "translation": 0} | ghosts
    known = {name: const(v, GHOSTS[name]) if isinstance(v, int) else v for name, v in ghosts.items()}
    return replace(state.with_ghosts(**known), lines=Everywhere(lines))


def after(state: State, *words: int) -> State:
    for index, word in enumerate(words):
        (step,) = execute(decode(word, 0x1000 + 4 * index), state)
        state = step.state
    return state


def ghost(state: State, name: str) -> int | None:
    return constant(state.ghosts[name])


def line(state: State) -> int | None:
    return constant(state.lines.read(const(PAGE)))


@pytest.mark.parametrize("kind", DSB)
def test_dsb_finishes_stores_unless_it_is_for_loads(kind):
    finished = ghost(after(start(unfinished=1), DSB[kind]), "unfinished") == 0
    assert finished == (not kind.endswith("ld"))


@pytest.mark.parametrize("kind", DSB)
def test_only_a_full_dsb_completes_invalidations(kind):
    state = start(icache=ICACHE_PENDING, translation=TRANSLATION_INVALIDATING)
    done = after(state, DSB[kind])
    full = kind in ("sy", "ish", "nsh", "osh")
    assert same(done.ghosts["icache"], ICACHE_COMPLETE if full else ICACHE_PENDING)
    assert same(done.ghosts["translation"], TRANSLATION_INVALIDATED if full else TRANSLATION_INVALIDATING)


@pytest.mark.parametrize("kind", DSB)
def test_only_a_full_dsb_beyond_this_cpu_completes_maintenance_by_address(kind):
    completed = line(after(start(PENDING), DSB[kind])) == constant(CLEAN)
    assert completed == (kind in ("sy", "ish", "osh"))


@pytest.mark.parametrize("kind", DSB)
@pytest.mark.parametrize("lines", [CLEAN, DIRTY, LOST])
def test_dsb_cleans_nothing_by_itself(kind, lines):
    assert line(after(start(lines), DSB[kind])) == constant(lines)


@pytest.mark.parametrize("kind", DSB)
def test_dsb_synchronizes_no_context_and_starts_no_invalidation(kind):
    state = start(unsynced=1, icache=ICACHE_STALE, translation=TRANSLATION_WRITTEN)
    done = after(state, DSB[kind])
    assert ghost(done, "unsynced") == 1
    assert same(done.ghosts["icache"], ICACHE_STALE)
    assert same(done.ghosts["translation"], TRANSLATION_WRITTEN)


def test_dsb_of_an_unknown_kind_is_unsupported():
    with pytest.raises(UnsupportedError, match="dsb with an operand that is no constant at 0x1000"):
        MEANING["DataSynchronizationBarrier"](start(), (var("x"), const(3)), 0x1000)


@pytest.mark.parametrize("word", [DMB, ISB])
def test_dmb_and_isb_complete_nothing(word):
    state = start(PENDING, unfinished=1, icache=ICACHE_PENDING, translation=TRANSLATION_INVALIDATING)
    done = after(state, word)
    assert ghost(done, "unfinished") == 1
    assert line(done) == constant(PENDING)
    assert same(done.ghosts["icache"], ICACHE_PENDING)
    assert same(done.ghosts["translation"], TRANSLATION_INVALIDATING)


def test_isb_synchronizes_context_and_dmb_does_not():
    state = start(unsynced=1)
    assert ghost(after(state, ISB), "unsynced") == 0
    assert ghost(after(state, DMB), "unsynced") == 1


@pytest.mark.parametrize("name", MSR)
def test_write_of_a_context_register_awaits_an_isb(name):
    written = after(start(), MSR[name])
    assert ghost(written, "unsynced") == 1
    assert ghost(after(written, ISB), "unsynced") == 0


def test_write_of_daif_awaits_nothing():
    assert ghost(after(start(), 0xD51B4220), "unsynced") == 0


@pytest.mark.parametrize("name", MSR)
def test_only_a_table_base_starts_a_change_of_translation(name):
    written = after(start(translation=TRANSLATION_INVALIDATED), MSR[name])
    is_base = name.startswith("ttbr")
    assert same(written.ghosts["translation"], TRANSLATION_WRITTEN if is_base else TRANSLATION_INVALIDATED)


@pytest.mark.parametrize(
    "words, reached",
    [
        ((), TRANSLATION_WRITTEN),
        ((ISB,), TRANSLATION_SYNCED),
        ((TLBI_VMALLE1,), TRANSLATION_WRITTEN),
        ((TLBI_VMALLE1, ISB), TRANSLATION_SYNCED),
        ((TLBI_VMALLE1, DSB["nsh"], ISB), TRANSLATION_SYNCED),
        ((ISB, DSB["nsh"]), TRANSLATION_SYNCED),
        ((ISB, TLBI_VMALLE1), TRANSLATION_INVALIDATING),
        ((ISB, TLBI_VMALLE1, ISB), TRANSLATION_INVALIDATING),
        ((ISB, TLBI_VMALLE1, DSB["nshst"]), TRANSLATION_INVALIDATING),
        ((ISB, TLBI_VMALLE1, DSB["nsh"]), TRANSLATION_INVALIDATED),
        ((ISB, TLBI_VMALLE1, DSB["nsh"], MSR["ttbr1_el1"]), TRANSLATION_INVALIDATED),
        ((ISB, TLBI_VMALLE1, DSB["nsh"], MSR["ttbr0_el1"]), TRANSLATION_WRITTEN),
    ],
)
def test_tables_change_through_isb_tlbi_and_dsb_in_this_order(words, reached):
    state = after(start(), MSR["ttbr1_el1"], *words)
    assert same(state.ghosts["translation"], reached)


def test_tlbi_without_a_change_leaves_translation_settled():
    state = after(start(), TLBI_VMALLE1, DSB["sy"])
    assert same(state.ghosts["translation"], TRANSLATION_SETTLED)


def test_instruction_cache_is_stale_after_a_store():
    state = after(start(icache=ICACHE_INVALID), STR)
    assert same(state.ghosts["icache"], ICACHE_STALE)


@pytest.mark.parametrize(
    "words, reached",
    [
        ((IC_IALLU,), ICACHE_STALE),
        ((IC_IALLU, DSB["sy"]), ICACHE_STALE),
        ((DSB["nshld"], IC_IALLU, DSB["nsh"]), ICACHE_STALE),
        ((DSB["nsh"], IC_IALLU), ICACHE_PENDING),
        ((DSB["nshst"], IC_IALLU), ICACHE_PENDING),
        ((DSB["nsh"], IC_IALLU, ISB), ICACHE_PENDING),
        ((DSB["nsh"], IC_IALLU, DSB["nshst"]), ICACHE_PENDING),
        ((DSB["nsh"], IC_IALLU, DSB["nsh"]), ICACHE_COMPLETE),
        ((DSB["nsh"], IC_IALLU, ISB, DSB["nsh"]), ICACHE_COMPLETE),
        ((DSB["nsh"], IC_IALLU, DSB["nsh"], ISB), ICACHE_INVALID),
        ((DSB["nsh"], IC_IALLU, DSB["nsh"], STR), ICACHE_STALE),
    ],
)
def test_instruction_cache_is_invalidated_between_two_dsbs_before_an_isb(words, reached):
    state = after(start(), STR, *words)
    assert same(state.ghosts["icache"], reached)


def test_instruction_cache_invalidation_awaits_an_isb():
    assert ghost(after(start(), IC_IALLU), "unsynced") == 1
    assert ghost(after(start(), IC_IALLU, DSB["nsh"], ISB), "unsynced") == 0


@pytest.mark.parametrize("word", [DC_CIVAC, DC_CVAC, DC_IVAC])
def test_maintenance_by_address_is_unfinished_until_a_dsb(word):
    maintained = after(start(), word)
    assert ghost(maintained, "unfinished") == 1
    assert ghost(after(maintained, DSB["sy"]), "unfinished") == 0


@pytest.mark.parametrize(
    "word, sctlr, reached",
    [
        (DC_CIVAC, CACHED, PENDING),
        (DC_CVAC, CACHED, PENDING),
        (DC_IVAC, CACHED, LOST),
        (DC_CIVAC, UNCACHED, PENDING),
        (DC_CVAC, UNCACHED, DIRTY),
        (DC_IVAC, UNCACHED, PENDING),
        (DC_IVAC, 1, PENDING),  # with the MMU on and the cache off nothing is held
        (DC_IVAC, 4, PENDING),
    ],
)
def test_maintenance_of_a_dirty_line(word, sctlr, reached):
    assert line(after(start(DIRTY, sctlr), word)) == constant(reached)


@pytest.mark.parametrize("sctlr, before, reached", [
    (CACHED, CLEAN, DIRTY),
    (CACHED, LOST, DIRTY),
    (UNCACHED, CLEAN, CLEAN),
    (UNCACHED, PENDING, DIRTY),
    (UNCACHED, DIRTY, DIRTY),
])  # fmt: skip
def test_store_goes_to_the_cache_or_past_it(sctlr, before, reached):
    assert line(after(start(before, sctlr), STR)) == constant(reached)


def test_hvc_clobbers_x0_to_x17_and_nothing_else():
    before = generic_state()
    state = after(before, HVC)
    changed = {name for name, value in state.registers.items() if not same(value, before.registers[name])}
    assert changed == {f"x{i}" for i in range(18)}
    assert state.ghosts == before.ghosts
    assert state.memory is before.memory
    assert state.lines is before.lines
    assert [event.name for event in state.events] == ["CallHyperVisor"]


def test_two_hvcs_clobber_with_different_values():
    first = after(generic_state(), HVC)
    assert not same(after(first, HVC).registers["x0"], first.registers["x0"])


@pytest.mark.parametrize("word", [ISB, DMB, *DSB.values(), DC_CIVAC, IC_IALLU, TLBI_VMALLE1])
def test_barriers_and_maintenance_change_no_register_and_no_memory(word):
    before = start()
    state = after(before, word)
    assert state.registers == before.registers
    assert state.memory is before.memory
    assert len(state.events) == 1


@pytest.mark.parametrize(
    ("word", "register"),
    [
        (0xD518_1000, "sctlr_el1"),
        (0xD518_2000, "ttbr0_el1"),
        (0xD518_2020, "ttbr1_el1"),
        (0xD518_2040, "tcr_el1"),
    ],
)
def test_isb_is_awaited_by_the_register_that_was_written(word: int, register: str) -> None:
    settled = after(start(), ISB)
    assert synced(settled.ghosts).is_true()
    written = after(settled, word)
    waiting = {name for name, component in UNSYNCED.items() if ghost(written, component) == 1}
    assert waiting == {register} and ghost(written, "unsynced") == 1
    assert synced(after(written, ISB).ghosts).is_true()
