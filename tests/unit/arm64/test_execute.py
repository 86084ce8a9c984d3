"""One instruction on a symbolic state: registers, flags, accesses, branches, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kexec_verify.arm64.execute import UNDEFINED, UNPRIVILEGED, Exit, Step, execute
from kexec_verify.arm64.lift import decode
from kexec_verify.arm64.state import FLAGS, State
from kexec_verify.arm64.system import FREE
from kexec_verify.errors import UnsupportedError
from kexec_verify.logic import Not, const, constant, same
from kexec_verify.prove.smtlib import script
from kexec_verify.prove.solvers import Answer, ask_bitwuzla
from kexec_verify.symbolic.loops import generic_state
from kexec_verify.symbolic.objects import Object, Objects

AT = 0x1000

UNMODELLED = {
    "dc CVAP": 0xD50B7C20,
    "drps": 0xD6BF03E0,
    "udf": 0x00000000,
    "fadd d0": 0x1E622820,
    "add v0.4S": 0x4EA28420,
    "ldr q0": 0x3DC00000,
    "ldp q0": 0xAD400400,
    "ldadd": 0xF8200041,
    "ldp w0": 0x29400440,
    "sb": 0xD50330FF,
    "mrs x0, mpidr_el1": 0xD53800A0,
    "mrs x0, cntvct_el0": 0xD53BE040,
    "mrs x0, nzcv": 0xD53B4200,
    "mrs x0, spsr_el1": 0xD5384000,
    "msr currentel": 0xD5184240,
    "msr nzcv": 0xD51B4200,
}
# No model says what they do: each is an effect that some rule must allow.
EFFECTS = {
    "at S1E1R": 0xD5087800,
    "smc": 0xD4000003,
    "svc": 0xD4000001,
    "hlt": 0xD4400020,
    "wfi": 0xD503207F,
    "wfe": 0xD503205F,
    "dc ZVA": 0xD50B7420,
    "dc ISW": 0xD5087640,
    "dc CISW": 0xD5087E40,
    "ic IALLUIS": 0xD508711F,
    "tlbi VAE1": 0xD5088720,
    "tlbi VMALLE1IS": 0xD508831F,
    "msr elr_el1": 0xD5184020,
    "msr vbar_el1": 0xD518C000,
    "msr mair_el1": 0xD518A200,
    "msr tpidr_el0": 0xD51BD040,
    "msr PState.SP": 0xD50041BF,
}
FREE_HINTS = {
    "yield": 0xD503203F,
    "clrex": 0xD5033F5F,
    "prfm": 0xF9800000,
}
UNDEFINED_AT_EL1 = {
    "tlbi ALLE1": 0xD50C879F,
    "mrs x0, sctlr_el2": 0xD53C1000,
    "msr sctlr_el2": 0xD51C1000,
    "msr hcr_el2": 0xD51C1100,
    "msr vbar_el2": 0xD51CC000,
}
# SLEIGH gives these no p-code, or that of a plain instruction.
PASSED_OVER = {
    "paciaz": 0xD503231F,
    "pacibsp": 0xD503237F,
    "pacia1716": 0xD503211F,
    "autiaz": 0xD503239F,
    "autibsp": 0xD50323FF,
    "autia1716": 0xD503219F,
    "xpaclri": 0xD50320FF,
    "ldraa x0, [x1]": 0xF8200420,
    "irg x0, x1": 0x9ADF1020,
    "addg x11, x7, #0x3e0, #0xd": 0x91BE34EB,
    "stg x26, [sp], #-0x5d0": 0xD93A37FA,
    "stxr w2, x0, [x1]": 0xC8027C20,
}
STILL_RUN = {
    "pacia x0, x1": 0xDAC10020,
    "pacia x30, sp": 0xDAC103FE,
    "autia x30, sp": 0xDAC113FE,
    "autib x30, sp": 0xDAC117FE,
    "braa x0, x1": 0xD71F0801,
    "retaa": 0xD65F0BFF,
    "blraa x0, x1": 0xD73F0801,
    "eretaa": 0xD69F0BFF,
    "ldxr x0, [x1]": 0xC85F7C20,
}


def run(word: int, state: State | None = None, el: int = 1, **registers: int) -> list[Step]:
    start = state or generic_state()
    known = {name: const(value, start.registers[name].length) for name, value in registers.items()}
    return list(execute(decode(word, AT), start.with_registers(**known), el))


def only(word: int, el: int = 1, **registers: int) -> State:
    (step,) = run(word, None, el, **registers)
    assert step.then == AT + 4
    return step.state


def value(state: State, register: str) -> int | None:
    return constant(state.registers[register])


def flags(state: State) -> str:
    return "".join(letter for letter, name in zip("NZCV", FLAGS, strict=True) if value(state, name))


def follows(facts, goal) -> bool:
    return ask_bitwuzla(script(facts, goal)).answer is Answer.UNSAT


@pytest.mark.parametrize("name", EFFECTS)
def test_system_instruction_without_a_model_is_an_effect(name):
    state = only(EFFECTS[name])
    (event,) = state.events
    assert event.name not in FREE and event.at == AT


@pytest.mark.parametrize("name", FREE_HINTS)
def test_hint_is_free(name):
    assert {event.name for event in only(FREE_HINTS[name]).events} <= FREE


@pytest.mark.parametrize("name", UNDEFINED_AT_EL1)
def test_what_is_defined_at_el2_is_undefined_at_el1(name):
    (step,) = run(UNDEFINED_AT_EL1[name])
    assert [event.name for event in step.state.events] == [UNDEFINED]
    assert isinstance(step.then, Exit) and step.then.kind == "undefined"


def test_unprivileged_access_is_an_effect_and_an_access():
    state = only(0xF8400810)  # ldtr x16, [x0]
    assert [event.name for event in state.events] == [UNPRIVILEGED]
    assert [access.kind for access in state.accesses] == ["load"]


@pytest.mark.parametrize(
    ("word", "through"),
    [
        (0xA9BD7BFD, True),  # stp x29, x30, [sp, #-48]!
        (0xF94003E0, True),  # ldr x0, [sp]
        (0xF9400000, False),  # ldr x0, [x0]
        (0x910003FD, False),  # mov x29, sp
        (0x580003FF, False),  # ldr xzr, an address near
        (0xF861681F, False),  # ldr xzr, [x0, x1]
    ],
)
def test_access_through_sp(word, through):
    assert decode(word, AT).through_sp is through


@pytest.mark.parametrize("name", UNMODELLED)
def test_instruction_without_a_meaning_is_refused_by_name_and_address(name):
    with pytest.raises(UnsupportedError) as caught:
        run(UNMODELLED[name])
    assert name.split()[0] in str(caught.value)
    assert caught.value.address == AT
    assert "at 0x1000" in str(caught.value)


@pytest.mark.parametrize("name", PASSED_OVER)
def test_instruction_that_sleigh_passes_over_is_refused_by_name_and_address(name):
    with pytest.raises(UnsupportedError, match=rf"instruction {name.split()[0]} .* at 0x1000"):
        run(PASSED_OVER[name])


@pytest.mark.parametrize("name", STILL_RUN)
def test_pointer_authentication_and_exclusive_loads_are_refused(name):
    with pytest.raises(UnsupportedError):
        run(STILL_RUN[name])


@pytest.mark.parametrize("word", [0x9BC27C20, 0x9B427C20])
def test_high_half_of_a_product_is_refused(word):
    """claripy folds shifts of constants wider than 64 bits wrongly."""
    with pytest.raises(UnsupportedError, match="operand of 16 bytes"):
        run(word)


@pytest.mark.parametrize("word", [0xD503201F, 0xD503245F, 0xD503229F])
def test_hints_that_do_nothing_do_nothing(word):
    before = generic_state()
    (step,) = run(word, before)
    assert (step.state.registers, step.state.ghosts) == (before.registers, before.ghosts)
    assert step.then == AT + 4


@pytest.mark.parametrize(
    "word, taken, registers",
    [
        (0x14000002, True, {}),
        (0xB4000040, True, {"x0": 0}),
        (0xB4000040, False, {"x0": 1 << 32}),
        (0xB5000040, True, {"x0": 1 << 63}),
        (0xB5000040, False, {"x0": 0}),
        (0x34000040, True, {"x0": 1 << 32}),  # cbz w0: the upper half does not count
        (0xB6400040, True, {"x0": ~(1 << 40)}),
        (0xB6400040, False, {"x0": 1 << 40}),
        (0x37180040, True, {"x0": 8}),
        (0x37180040, False, {"x0": ~8}),
        (0x54000040, True, {"ZR": 1}),
        (0x54000040, False, {"ZR": 0}),
        (0x54000041, True, {"ZR": 0}),
        (0x5400004B, True, {"NG": 1, "OV": 0}),
        (0x5400004B, False, {"NG": 1, "OV": 1}),
        (0x54000048, True, {"CY": 1, "ZR": 0}),
        (0x54000048, False, {"CY": 1, "ZR": 1}),
        (0x54000048, False, {"CY": 0, "ZR": 0}),
        (0x54000042, True, {"CY": 1}),
        (0x54000043, True, {"CY": 0}),
    ],
)
def test_branch_on_constants_goes_one_way(word, taken, registers):
    (step,) = run(word, **registers)
    assert step.then == (AT + 8 if taken else AT + 4)
    assert step.state.facts == ()


@pytest.mark.parametrize("word", [0xB4000040, 0xB5000040, 0x34000040, 0xB6400040, 0x54000040, 0x54000048])
def test_branch_on_unknowns_goes_both_ways_and_the_ways_exclude_each_other(word):
    steps = run(word)
    assert sorted(step.then for step in steps) == [AT + 4, AT + 8]
    (first,), (second,) = (step.state.facts for step in steps)
    assert {first[0], second[0]} == {"branch taken at 0x1000", "branch not taken at 0x1000"}
    assert follows((), first[1] == Not(second[1]))


@pytest.mark.parametrize("word, kind, register", [(0xD61F0020, "br", "x1"), (0xD65F03C0, "ret", "x30")])
def test_indirect_branch_leaves_to_its_register(word, kind, register):
    (step,) = run(word)
    assert isinstance(step.then, Exit)
    assert step.then.kind == kind
    assert same(step.then.target, step.state.registers[register])


def test_call_leaves_to_its_target_and_links():
    (step,) = run(0x94000004)  # bl AT + 16
    assert isinstance(step.then, Exit)
    assert (step.then.kind, constant(step.then.target)) == ("call", AT + 16)
    assert value(step.state, "x30") == AT + 4
    assert step.state.accesses == step.state.events == ()


def test_call_of_a_register_leaves_to_it_and_links():
    (step,) = run(0xD63F0020)  # blr x1
    assert isinstance(step.then, Exit)
    assert step.then.kind == "call"
    assert same(step.then.target, generic_state().registers["x1"])
    assert value(step.state, "x30") == AT + 4


def test_call_of_the_link_register_reads_it_before_it_links():
    (step,) = run(0xD63F03C0)  # blr x30
    assert isinstance(step.then, Exit)
    assert same(step.then.target, generic_state().registers["x30"])
    assert value(step.state, "x30") == AT + 4


def test_exception_return_leaves_to_nowhere_that_is_known():
    before = generic_state()
    (step,) = run(0xD69F03E0, before)
    assert isinstance(step.then, Exit)
    assert step.then.kind == "eret"
    assert step.state.registers == before.registers


@pytest.mark.parametrize("word, number", [(0xD4200020, 1), (0xD4210000, 0x800)])
def test_brk_leaves_with_its_number(word, number):
    (step,) = run(word)
    assert isinstance(step.then, Exit)
    assert (step.then.kind, constant(step.then.target)) == ("brk", number)


@pytest.mark.parametrize("zero, expected", [(1, 11), (0, 22)])
def test_csel_on_constants(zero, expected):
    assert value(only(0x9A820020, x1=11, x2=22, ZR=zero), "x0") == expected


def test_csel_on_unknown_flags_has_both_results_with_their_facts():
    steps = run(0x9A820020)
    results = {}
    for step in steps:
        ((_, fact),) = step.state.facts
        equal = follows((("path", fact),), step.state.registers["ZR"] != 0)
        results[equal] = step.state.registers["x0"]
    assert same(results[True], generic_state().registers["x1"])
    assert same(results[False], generic_state().registers["x2"])


@pytest.mark.parametrize(
    "x0, x1, expected",
    [
        (5, 5, "ZC"),
        (4, 5, "N"),
        (5, 4, "C"),
        (1 << 63, 1, "CV"),
        (0x7FFF_FFFF_FFFF_FFFF, -1, "NV"),
        (0, 1 << 63, "NV"),
    ],
)
def test_flags_of_cmp(x0, x1, expected):
    assert flags(only(0xEB01001F, x0=x0, x1=x1)) == expected


@pytest.mark.parametrize("x0, expected", [(0x1000, "Z"), (0x1001, ""), (-1, ""), (0, "Z")])
def test_flags_of_tst_clear_carry_and_overflow(x0, expected):
    assert flags(only(0xF2402C1F, x0=x0, CY=1, OV=1, NG=1)) == expected


def test_flags_of_a_32_bit_compare_ignore_the_upper_half():
    assert flags(only(0x6B01001F, x0=7 << 32 | 5, x1=5)) == "ZC"


@pytest.mark.parametrize("zero, expected", [(0, "ZC"), (1, "Z")])
def test_ccmp_compares_or_sets_its_immediate(zero, expected):
    # ccmp x0, x1, #4, ne
    assert flags(only(0xFA411004, x0=9, x1=9, ZR=zero, NG=1, OV=1, CY=0)) == expected


def test_ldp_loads_two_neighbouring_words():
    state = only(0xA9400440)
    base = state.registers["x2"]
    assert [(a.kind, same(a.address, base + 8 * i)) for i, a in enumerate(state.accesses)] == [
        ("load", True),
        ("load", True),
    ]
    assert same(state.registers["x0"], generic_state().memory.read(base))
    assert same(state.registers["x1"], generic_state().memory.read(base + 8))


@pytest.mark.parametrize(
    "word, first, base",
    [(0xA8C10440, 0, 16), (0xA9C10440, 16, 16), (0xA8400440, 0, 0)],
    ids=["post", "pre", "ldnp"],
)
def test_ldp_writes_its_base_back(word, first, base):
    state = only(word, x2=0x8000)
    assert [constant(a.address) for a in state.accesses] == [0x8000 + first, 0x8008 + first]
    assert value(state, "x2") == 0x8000 + base


def test_stnp_stores_two_words_and_leaves_its_base():
    state = only(0xA8020440, x0=1, x1=2, x2=0x8000)  # stnp x0, x1, [x2, #32]
    assert [(a.kind, constant(a.address), constant(a.value)) for a in state.accesses] == [
        ("store", 0x8020, 1),
        ("store", 0x8028, 2),
    ]
    assert [constant(state.memory.read(const(a))) for a in (0x8020, 0x8028)] == [1, 2]
    assert value(state, "x2") == 0x8000


def test_load_of_own_base_keeps_the_loaded_word():
    state = only(0xF9400021)  # ldr x1, [x1]
    assert same(state.registers["x1"], generic_state().memory.read(generic_state().registers["x1"]))


def test_post_index_load_advances_after_the_access():
    state = only(0xF8408420, x1=0x8000)
    assert constant(state.accesses[0].address) == 0x8000
    assert value(state, "x1") == 0x8008


def test_store_leaves_ghost_effects():
    before = generic_state().with_ghosts(unfinished=const(0, 1), icache=const(0, 2))
    (step,) = run(0xF8008420, before)  # str x0, [x1], #8
    assert constant(step.state.ghosts["unfinished"]) == 1
    assert constant(step.state.ghosts["icache"]) == 2


def test_load_leaves_none():
    before = generic_state()
    (step,) = run(0xF9400021, before)
    assert step.state.ghosts == before.ghosts
    assert step.state.lines is before.lines


def test_access_remembers_the_facts_and_state_it_was_made_in():
    before = generic_state().assume(("here", generic_state().registers["x9"] == 0))
    (step,) = run(0xA8C10440, before)
    for access in step.state.accesses:
        assert access.at == AT
        assert access.known == 1
    assert step.state.accesses[1].before.accesses == step.state.accesses[:1]


def test_zero_register_reads_zero_and_swallows_writes():
    assert value(only(0xAA1F03E0), "x0") == 0  # mov x0, xzr
    assert flags(only(0xEB1F001F, x0=0)) == "ZC"  # cmp x0, xzr
    before = generic_state()
    (step,) = run(0xF8008C3F, before)  # str xzr, [x1, #8]!
    assert constant(step.state.accesses[0].value) == 0


def test_32_bit_write_clears_the_upper_half():
    assert value(only(0x2A0103E0, x0=-1, x1=-1), "x0") == 0xFFFF_FFFF  # mov w0, w1


def test_trace_names_each_instruction():
    (first,) = run(0xD503201F)
    (second,) = execute(decode(0xD503201F, AT + 4), first.state)
    assert second.state.trace == (AT, AT + 4)


@pytest.mark.parametrize(
    "word, name",
    [
        (0xD5181000, "sctlr_el1"),
        (0xD5182000, "ttbr0_el1"),
        (0xD5182020, "ttbr1_el1"),
        (0xD5182040, "tcr_el1"),
        (0xD51B4220, "daif"),
        (0xD5184100, "sp_el0"),
        (0xD518D080, "tpidr_el1"),
        (0xD51CC000, "vbar_el2"),
    ],
)
def test_msr_sets_its_register_and_is_an_event(word, name):
    state = only(word, el=2, x0=0x123)
    assert value(state, name) == 0x123
    (event,) = state.events
    assert (event.name, [constant(o) for o in event.operands], event.at) == (f"msr {name}", [0x123], AT)
    assert same(event.before.registers[name], generic_state().registers[name])


@pytest.mark.parametrize(
    "word, name",
    [
        (0xD5381000, "sctlr_el1"),
        (0xD5382000, "ttbr0_el1"),
        (0xD5382020, "ttbr1_el1"),
        (0xD5382040, "tcr_el1"),
        (0xD53B0020, "ctr_el0"),
        (0xD53B4220, "daif"),
        (0xD5384240, "currentel"),
        (0xD5384100, "sp_el0"),
        (0xD538D080, "tpidr_el1"),
        (0xD53CC000, "vbar_el2"),
    ],
)
def test_mrs_reads_its_register(word, name):
    state = only(word, el=2)
    assert same(state.registers["x0"], generic_state().registers[name])
    assert state.events == ()


@pytest.mark.parametrize("word, before, after", [(0xD5034FDF, 0, 0x3C0), (0xD50342FF, 0x3C0, 0x340)])
def test_daifset_and_daifclr_change_the_bits_they_name(word, before, after):
    assert value(only(word, daif=before), "daif") == after


SUB_WORD = {
    "ldrb w0, [x1]": (0x39400020, 1),
    "ldrh w0, [x1]": (0x79400020, 2),
    "ldr w0, [x1]": (0xB9400020, 4),
    "ldrsb x0, [x1]": (0x39800020, 1),
    "ldrsw x0, [x1]": (0xB9800020, 4),
    "strb w0, [x1]": (0x39000020, 1),
    "strh w0, [x1]": (0x79000020, 2),
    "str w0, [x1]": (0xB9000020, 4),
}


@pytest.mark.parametrize("text", SUB_WORD)
def test_parts_of_words_are_refused_by_a_memory_of_words_with_the_instruction(text):
    word, size = SUB_WORD[text]
    mnemonic = text.partition(" ")[0]
    with pytest.raises(UnsupportedError, match=rf"(load|store) of {size} bytes \({mnemonic} .* at 0x1000"):
        run(word)


def in_objects(word: int, **registers: int) -> State:
    base = generic_state().registers["x1"]
    memory = Objects((Object("it", base, 0, 64),))
    memory = memory.storing("it", 0, const(0x8877665544332211))
    start = replace(generic_state(), memory=memory)
    known = {name: const(known, start.registers[name].length) for name, known in registers.items()}
    (step,) = run(word, start.with_registers(**known))
    return step.state


@pytest.mark.parametrize(
    "word, expected",
    [
        (0x39400020, 0x11),
        (0x39401C20, 0x88),  # ldrb w0, [x1, #7]
        (0x79400C20, 0x8877),  # ldrh w0, [x1, #6]
        (0xB9400420, 0x88776655),  # ldr w0, [x1, #4]
        (0xB9800420, 0xFFFF_FFFF_8877_6655),  # ldrsw x0, [x1, #4]
        (0xB9800020, 0x44332211),
        (0x39801C20, 0xFFFF_FFFF_FFFF_FF88),  # ldrsb x0, [x1, #7]
        (0x79800C20, 0xFFFF_FFFF_FFFF_8877),  # ldrsh x0, [x1, #6]
        (0x39C01C20, 0xFFFF_FF88),  # ldrsb w0, [x1, #7]
        (0x39C00020, 0x11),
        (0x79C00C20, 0xFFFF_8877),  # ldrsh w0, [x1, #6]
        (0x38C07020, 0xFFFF_FF88),  # ldursb w0, [x1, #7]
        (0x78C06020, 0xFFFF_8877),  # ldursh w0, [x1, #6]
    ],
)
def test_load_of_a_part_extends_it(word, expected):
    state = in_objects(word)
    assert value(state, "x0") == expected
    assert [access.kind for access in state.accesses] == ["load"]


@pytest.mark.parametrize(
    "word, size, expected",
    [
        (0x39000820, 1, 0x8877665544EF2211),  # strb w0, [x1, #2]
        (0x79000420, 2, 0x88776655CDEF2211),  # strh w0, [x1, #2]
        (0xB9000420, 4, 0x89ABCDEF44332211),  # str w0, [x1, #4]
        (0xB900043F, 4, 0x0000000044332211),  # str wzr, [x1, #4]
    ],
)
def test_store_of_a_part_keeps_the_rest(word, size, expected):
    state = in_objects(word, x0=0x0123456789ABCDEF)
    (access,) = state.accesses
    assert (access.kind, access.size) == ("store", size)
    assert constant(state.memory.load(generic_state().registers["x1"], 8)) == expected
