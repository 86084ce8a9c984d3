"""Basic blocks of a recorded function and their states."""

from __future__ import annotations

import msgspec

from verify.html.blocks import blocks
from verify.verdict import Verdict

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
    owed = example.obligation("o", Verdict.UNKNOWN, at=None)
    run = example.run(example.claim("a", Verdict.UNKNOWN, obligations=[owed]))
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
