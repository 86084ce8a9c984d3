"""Inner loops: what is inferred of them, what is proved, and wrong loops that are not."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction

import pytest
from kexec_verify.arm64.execute import Exit, Step
from kexec_verify.arm64.lift import Code
from kexec_verify.errors import LimitError, UnsupportedError
from kexec_verify.logic import FALSE, aligned, constant, same, ult
from kexec_verify.obligation import Obligation
from kexec_verify.parts_of_angr import claripy
from kexec_verify.prove.discharge import Discharger, decide
from kexec_verify.symbolic import explore, loops
from kexec_verify.symbolic.explore import Explorer
from kexec_verify.symbolic.loops import generic_state
from kexec_verify.symbolic.objects import STACK_FRAME, Object, Objects
from kexec_verify.verdict import Verdict

BASE, PAGE = 0x1000, 4096
NOP, BR = 0xD503201F, 0xD61F03C0  # br x30
ENTRY = generic_state().registers
SOURCE, DEST, COUNT = ENTRY["x1"], ENTRY["x0"], ENTRY["x5"]


def ldr(register: int, base: int, offset: int) -> int:
    return 0xF9400000 | offset // 8 << 10 | base << 5 | register


def store(register: int, base: int, offset: int) -> int:
    return 0xF9000000 | offset // 8 << 10 | base << 5 | register


def add(register: int, base: int, value: int) -> int:
    return 0x91000000 | value << 10 | base << 5 | register


def subs(register: int, base: int, value: int) -> int:
    return 0xF1000000 | value << 10 | base << 5 | register


def b_ne(distance: int) -> int:
    return 0x54000001 | (distance & 0x7FFFF) << 5


def b_lo(distance: int) -> int:
    return 0x54000003 | (distance & 0x7FFFF) << 5


TST_X1_PAGE = 0xF2402C3F  # tst x1, #0xfff
TST_X0_PAGE = 0xF2402C1F  # tst x0, #0xfff
CMP_X0_X4 = 0xEB04001F
ADD_X0_X0_X3 = 0x8B030000
DC_CIVAC_X0, DC_IVAC_X0 = 0xD50B7E20, 0xD5087620


def body(words: int, *, skip: int | None = None, shift: dict[int, int] | None = None) -> list[int]:
    """Loads of ``words`` words at x1, then stores of them at x0; ``shift`` moves single stores."""
    loads = [ldr(6 + i, 1, 8 * i) for i in range(words)]
    stores = [store(6 + i, 0, (shift or {}).get(i, 8 * i)) for i in range(words) if i != skip]
    return loads + stores


def copy(words: int, test: int = TST_X1_PAGE, dest: int | None = None, **changes) -> list[int]:
    """A copy loop that ends with the page of the source."""
    iteration = [
        *body(words, **changes),
        add(1, 1, 8 * words),
        add(0, 0, 8 * words if dest is None else dest),
    ]
    return [*iteration, test, b_ne(-len(iteration) - 1), BR]


def code(*words: int) -> Code:
    return Code("example", BASE, struct.pack(f"<{len(words)}I", *words))


def explored(words: list[int], *facts) -> Explorer:
    explorer = Explorer(code(*words), frozenset(), decide, (PAGE,), "example-")
    explorer.steps = explorer.run(generic_state().assume(*facts), BASE)
    return explorer


PAGES = (
    ("source is a page", aligned(SOURCE, PAGE)),
    ("destination is a page", aligned(DEST, PAGE)),
    ("source is low", ult(SOURCE, 1 << 60)),
    ("destination is low", ult(DEST, 1 << 60)),
)


def unproved(obligations: list[Obligation]) -> set[str]:
    results = Discharger(limit=5.0).discharge(obligations)
    return {result.obligation.name for result in results if result.verdict is not Verdict.PROVED}


@pytest.mark.parametrize("words", [1, 2, 8])
def test_copy_loop_is_inferred_and_proved(words):
    explorer = explored(copy(words), *PAGES)
    (entered,) = explorer.entered
    shape = entered.shape
    assert shape.name == "copy"
    assert constant(shape.stride) == 8 * words
    dest, source = shape.copied
    assert ((dest.register, dest.offset), (source.register, source.offset)) == (("x0", 0), ("x1", 0))
    assert {shape.advancing[name] for name in ("x0", "x1")} == {Fraction(1)}
    assert {f"x{6 + i}" for i in range(words)} <= shape.clobbered
    assert "x5" not in shape.clobbered
    names = {obligation.name for obligation in explorer.obligations}
    assert names == {"example-copy-init", "example-copy-kept", "example-copy-terminates"}
    assert unproved(explorer.obligations) == set()


def test_copy_loop_is_left_with_the_page_copied():
    explorer = explored(copy(8), *PAGES)
    (step,) = explorer.steps
    assert isinstance(step.then, Exit)
    state = step.state
    copied = state.memory.read(DEST + 8 * 37) == generic_state().memory.read(SOURCE + 8 * 37)
    past = state.memory.read(DEST + PAGE) == generic_state().memory.read(DEST + PAGE)
    # The last turn stores above what the loop's definition copied: source and destination must not overlap.
    apart = (("apart", ult(SOURCE, DEST - 2 * PAGE)),)
    assert decide((*state.facts, *apart), copied)
    assert decide((*state.facts, *apart), past)
    wrong = state.memory.read(DEST + 8 * 37) == generic_state().memory.read(SOURCE + 8 * 38)
    assert not decide((*state.facts, *apart), wrong)


def test_copy_that_tests_its_destination_is_proved_for_pages_all_the_same():
    explorer = explored(copy(8, TST_X0_PAGE), *PAGES)
    assert unproved(explorer.obligations) == set()


@pytest.mark.parametrize(
    "words",
    [
        copy(8, shift={3: 32}),
        copy(8, shift={7: 64}),
        copy(8, skip=5),
        copy(8, skip=7),
        copy(2, shift={0: 8, 1: 0}),
        [*body(2), store(6, 0, 24), add(1, 1, 16), add(0, 0, 16), TST_X1_PAGE, b_ne(-8), BR],
        [*body(2), store(7, 0, 0), add(1, 1, 16), add(0, 0, 16), TST_X1_PAGE, b_ne(-8), BR],
    ],
    ids=[
        "store at a wrong offset",
        "last store in the next block",
        "a word skipped",
        "the last word skipped",
        "words swapped",
        "a store beyond the block",
        "a word overwritten by its neighbour",
    ],
)
def test_wrong_copy_is_not_proved(words):
    explorer = explored(words, *PAGES)
    assert "example-copy-kept" in unproved(explorer.obligations)


@pytest.mark.parametrize("advance", [128, 56, 0])
def test_copy_whose_pointers_advance_apart_is_refused(advance):
    with pytest.raises(UnsupportedError, match="stores what it did not load"):
        explored(copy(8, dest=advance), *PAGES)


def test_copy_without_aligned_pages_has_no_invariant_that_ends_it():
    explorer = explored(copy(8))
    assert "example-copy-terminates" in unproved(explorer.obligations)


def test_loop_that_stores_what_it_did_not_load_is_unsupported():
    with pytest.raises(UnsupportedError, match="stores what it did not load at 0x1000"):
        explored([store(5, 0, 0), add(0, 0, 8), TST_X0_PAGE, b_ne(-3), BR], *PAGES)


def test_loop_that_counts_iterations_down():
    explorer = explored([subs(5, 5, 1), b_ne(-1), BR], ("some turns", COUNT != 0))
    (entered,) = explorer.entered
    assert entered.shape.name == "scan"
    assert entered.shape.advancing["x5"] == Fraction(-1)
    (step,) = explorer.steps
    assert decide(step.state.facts, step.state.registers["x5"] == 0)
    assert unproved(explorer.obligations) <= {"example-scan-terminates"}


def test_copy_with_a_counter_of_iterations_is_proved():
    iteration = [*body(8), add(1, 1, 64), add(0, 0, 64), subs(5, 5, 1)]
    explorer = explored([*iteration, b_ne(-len(iteration)), BR], *PAGES, ("a page of blocks", COUNT == 64))
    (entered,) = explorer.entered
    assert entered.shape.advancing["x5"] == Fraction(-1, 64)
    assert unproved(explorer.obligations) == set()


def test_counter_needs_progress_in_whole_iterations():
    """A counter falls by one for each 64 bytes: true only with the invariant that this filter drops."""
    words = code(add(0, 0, 64), subs(5, 5, 1), b_ne(-2), BR)
    for keep, failing in ((decide, set()), (lambda *_: False, {"example-scan-kept"})):
        explorer = Explorer(words, frozenset(), keep, (PAGE,), "example-")
        explorer.run(generic_state().assume(*PAGES, ("a page of turns", COUNT == 64)), BASE)
        registers = [o for o in explorer.obligations if "leaves the registers" in o.sentence]
        assert len(registers) == 1
        assert unproved(registers) == failing


def flush(operation: int) -> list[int]:
    """Maintenance from x0 to x4 in steps of x3, a line size."""
    return [operation, ADD_X0_X0_X3, CMP_X0_X4, b_lo(-3), BR]


@pytest.mark.parametrize("operation, name", [(DC_CIVAC_X0, "flush"), (DC_IVAC_X0, "inval")])
def test_maintenance_loop_goes_by_the_register_of_its_step(operation, name):
    explorer = explored(flush(operation), *PAGES)
    (entered,) = explorer.entered
    shape = entered.shape
    assert shape.name == name
    assert str(shape.stride) == str(ENTRY["x3"])
    assert shape.maintained[0].register == "x0"


def test_maintenance_by_a_wrong_step_is_not_proved():
    # Nothing is known of x3: it may be 0, or more than a line.
    explorer = explored(flush(DC_CIVAC_X0), *PAGES)
    assert {"example-flush-kept", "example-flush-terminates"} <= unproved(explorer.obligations)


def test_loop_in_which_nothing_advances_is_unsupported():
    with pytest.raises(UnsupportedError, match="no register advances"):
        explored([NOP, 0xB5FFFFE5, BR])  # cbnz x5, .-4


def test_loop_that_both_copies_and_maintains_is_unsupported():
    words = copy(1)
    with pytest.raises(UnsupportedError, match="both copies and maintains"):
        explored([*words[:2], DC_CIVAC_X0, *words[2:-2], b_ne(-6), BR], *PAGES)


def test_barrier_in_an_inner_loop_is_unsupported():
    words = copy(1)
    with pytest.raises(UnsupportedError, match=r"DataSynchronizationBarrier in a loop"):
        explored([*words[:2], 0xD5033F9F, *words[2:-2], b_ne(-6), BR], *PAGES)


def test_loop_within_an_inner_loop_is_unsupported():
    inner = copy(1)[:-1]
    with pytest.raises(UnsupportedError, match=rf"loop within an inner loop at {BASE:#x}"):
        explored([NOP, *inner, subs(5, 5, 1), b_ne(-len(inner) - 2), BR], *PAGES)


def test_two_ways_back_are_unsupported():
    # cbz x2, .+12; add; b .-8; add; tst; b.ne .-20
    words = [0xB4000062, add(0, 0, 8), 0x17FFFFFE, add(0, 0, 8), TST_X0_PAGE, b_ne(-5), BR]
    with pytest.raises(UnsupportedError, match="loop with 2 paths back to its head"):
        explored(words)


def test_loop_that_is_entered_again_too_often_is_unsupported():
    words = [add(0, 0, 8), TST_X0_PAGE, b_ne(-2), subs(5, 5, 1), b_ne(-4), BR]
    with pytest.raises(UnsupportedError, match="entered again more than 4 times"):
        explored(words)


def test_loop_that_is_entered_again_once_is_followed_twice():
    # mov x3, x0; the loop; mov x0, x3; mov x3, xzr; cbnz x0, loop
    again = 0xB5000000 | (-5 & 0x7FFFF) << 5
    words = [0xAA0003E3, add(0, 0, 8), TST_X0_PAGE, b_ne(-2), 0xAA0303E0, 0xAA1F03E3, again, BR]
    explorer = explored(words, ("it is a page", aligned(DEST, PAGE)), ("it is not 0", DEST != 0))
    assert [loop.shape.head for loop in explorer.entered] == [BASE + 4] * 2
    (step,) = explorer.steps
    assert constant(step.state.registers["x0"]) == 0
    # That the loop is entered again in any case is owed, and is so.
    (untaken,) = (found for found in explorer.obligations if found.name == "example-untaken")
    assert unproved(explorer.obligations) == set()
    # Without the fact there is a path that leaves after the first round.
    assert len(explored(words, ("it is a page", aligned(DEST, PAGE))).steps) == 2
    assert untaken.at == BASE + 24


def test_straight_code_has_every_path_and_covers_every_instruction():
    words = [0xB4000040, NOP, 0xB4000041, NOP, BR]  # cbz x0, .+8; cbz x1, .+8
    explorer = explored(words)
    assert len(explorer.steps) == 4
    assert explorer.covered == {BASE + 4 * i for i in range(5)}
    assert explorer.obligations == []


def test_path_ends_at_a_stop_but_may_start_at_one():
    explorer = Explorer(code(NOP, NOP, BR), frozenset({BASE, BASE + 8}))
    (step,) = explorer.run(generic_state(), BASE)
    assert step.then == BASE + 8
    assert explorer.covered == {BASE, BASE + 4}


def test_loop_that_is_a_cutpoint_is_run_for_one_iteration():
    explorer = Explorer(code(*copy(1)), frozenset({BASE}))
    steps = explorer.run(generic_state(), BASE)
    assert {step.then if isinstance(step.then, int) else "out" for step in steps} == {BASE, "out"}
    assert explorer.entered == []


def test_too_many_paths_are_a_limit_and_not_dropped(monkeypatch):
    monkeypatch.setattr(explore, "MAX_PATHS", 3)
    with pytest.raises(LimitError, match=r"more than 3 paths from example\+0x0"):
        explored([0xB4000040, NOP, 0xB4000041, NOP, BR])


def scanned() -> tuple[Explorer, list[Step]]:
    """while (*x1) x1++: what leaves the loop after a turn has read a zero."""
    code = Code("scan", BASE, struct.pack("<5I", ldr(6, 1, 0), 0xB4000066, add(1, 1, 8), 0x17FFFFFD, BR))
    explorer = Explorer(code, frozenset(), decide)
    return explorer, explorer.run(generic_state(), BASE)


def test_a_guard_over_loaded_words_is_not_taken_to_outlast_the_loop():
    explorer, (step,) = scanned()
    (loop,) = explorer.entered
    later = (*step.state.facts, ("a turn was made", loop.progress != 0))
    assert not decide(later, FALSE)
    results = Discharger().discharge(explorer.obligations)
    wrong = {r.obligation.name for r in results if r.verdict is not Verdict.PROVED}
    assert wrong <= {"scan-terminates"}


def test_a_replacement_that_leaves_loaded_words_alone_would_lose_the_way_out(monkeypatch):
    for module in (explore, loops):
        name = "replace" if module is explore else "substitute"
        monkeypatch.setattr(module, name, claripy.replace)
    explorer, (step,) = scanned()
    (loop,) = explorer.entered
    assert decide((*step.state.facts, ("a turn was made", loop.progress != 0)), FALSE)


STACK_RET = 0xD65F03C0
STR_X1_SP_16, LDR_X2_SP_16 = 0xF81F0FE1, 0xF84107E2  # str x1, [sp, #-16]!; ldr x2, [sp], #16
LDR_X3_SP, SUB_SP_16 = 0xF94003E3, 0xD10043FF


def stack_path(*words: int) -> Step:
    code = Code("f", BASE, struct.pack(f"<{len(words)}I", *words))
    memory = Objects((Object(STACK_FRAME, ENTRY["sp"], -4096, 0),))
    (step,) = Explorer(code, frozenset()).run(replace(generic_state(), memory=memory), BASE)
    return step


def test_an_instruction_that_pops_reads_what_it_pops():
    step = stack_path(STR_X1_SP_16, LDR_X2_SP_16, STACK_RET)
    assert same(step.state.registers["x2"], ENTRY["x1"])


def test_what_lay_below_the_stack_pointer_is_not_read_again():
    with pytest.raises(UnsupportedError, match="load of popped bytes"):
        stack_path(STR_X1_SP_16, LDR_X2_SP_16, SUB_SP_16, LDR_X3_SP, STACK_RET)
