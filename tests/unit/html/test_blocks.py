"""Basic blocks of a recorded function and their states."""

from __future__ import annotations

import msgspec
from kexec_verify.html.blocks import blocks
from kexec_verify.verdict import Verdict

from . import example


def starts(run) -> list[tuple[int, str]]:
    return [(block.start - example.BASE, block.state) for block in blocks(run.functions[0], run)]


def test_blocks_end_at_branches_and_begin_at_targets_and_cutpoints():
    found = blocks(example.function(), example.proved())
    assert [block.start - example.BASE for block in found] == [0, 4, 8, 0x14, 0x1C, 0x24]
    assert [[t - example.BASE for t in block.then] for block in found] == [
        [4],
        [8, 0x1C],
        [0x14, 8],
        [0x1C],
        [0x24, 4],
        [],
    ]
    assert [block.loop for block in found] == [False, True, True, False, False, False]
    assert [block.cutpoint for block in found] == [True, True, True, False, False, False]


def test_state_of_a_block_is_its_worst():
    assert {state for _, state in starts(example.proved())} == {"proved"}
    assert starts(example.refuted())[-1] == (0x24, "refuted")
    assert (4, "open") in starts(example.refuted())
    assert {state for _, state in starts(example.undecided(Verdict.UNKNOWN))} == {"uncovered"}


def test_open_obligation_about_no_instruction_marks_its_path():
    required = example.obligation("o", Verdict.UNKNOWN, at=None)
    run = example.run(example.claim("a", Verdict.UNKNOWN, obligations=[required]))
    assert [start for start, state in starts(run) if state == "open"] == [4, 8]
    assert [start for start, state in starts(run) if state == "proved"] == [0, 0x14, 0x1C, 0x24]


def test_instruction_without_a_known_successor_ends_its_block():
    function = example.function()
    unknown = msgspec.structs.replace(function.instructions[2], then=[], text=".inst 0xdac10000")
    function = msgspec.structs.replace(
        function, instructions=[*function.instructions[:2], unknown, *function.instructions[3:]]
    )
    found = blocks(function, example.proved())
    assert [block.start - example.BASE for block in found][:4] == [0, 4, 8, 0xC]
    assert (found[2].then, found[2].state) == ((), "unmodelled")


def test_code_that_no_path_reaches_is_told_from_code_that_was_not_run():
    function = example.function()
    last = example.BASE + 0x24
    ran = [msgspec.structs.replace(i, covered=i.address < last) for i in function.instructions]
    functions = [msgspec.structs.replace(function, instructions=ran)]
    untaken = example.obligation("mk-untaken")
    doubtful = example.obligation("mk-untaken", Verdict.UNKNOWN)

    def state(*properties, **changed):
        return starts(example.run(*properties, functions=functions, **changed))[-1]

    assert state(example.claim("a", obligations=[untaken])) == (0x24, "unreached")
    assert state(example.claim("a", Verdict.REFUTED, obligations=[untaken])) == (0x24, "unreached")
    assert state(example.claim("a", Verdict.UNKNOWN, obligations=[untaken])) == (0x24, "uncovered")
    assert state(example.claim("a", Verdict.REFUTED, obligations=[doubtful])) == (0x24, "uncovered")
    assert state(example.claim("a", obligations=[untaken]), complete=False) == (0x24, "uncovered")
    other = example.claim("b", Verdict.UNSUPPORTED, function=function.name, obligations=[])
    assert state(example.claim("a", obligations=[untaken]), other) == (0x24, "uncovered")
    assert state(example.claim("a", obligations=[])) == (0x24, "uncovered")


def test_place_that_a_proof_went_no_further_than_is_marked():
    reason = "instruction wfi (WaitForInterrupt) at arm64_relocate_new_kernel+0x18/0x2c"
    opened = example.claim("a", Verdict.UNSUPPORTED, reason=reason, obligations=[])
    found = starts(example.run(opened, functions=[example.function(covered=False)], paths=[]))
    assert [start for start, state in found if state == "unmodelled"] == [0x14]
