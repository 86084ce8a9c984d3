"""Our decoder against LLVM's over the whole encoding space.

What our decoder accepts must be an instruction of Armv8.0-A there, and the same one. Without that,
SLEIGH takes encodings of later extensions, and unallocated ones, for plain instructions.
"""

import itertools

import pytest
from kexec_verify.arm64 import lift

from . import second_decoder as second


@pytest.fixture
def compare(require_tool):
    """A function from words to (how many, how many of them ours accepts, disagreements)."""
    require_tool("llvm-mc", "llvm")

    def compared(words):
        words = list(dict.fromkeys(words))
        accepted, found = 0, []
        for word, theirs in zip(words, second.llvm(words), strict=True):
            instruction = second.ours(word)
            if instruction is not None:
                accepted += 1
                found.append(second.disagreement(instruction, theirs))
        return len(words), accepted, [text for text in found if text]

    return compared


def test_a_part_of_the_space(compare):
    words = itertools.chain(
        second.structured(7, places=1), second.system_space(97), second.exceptions_and_branches()
    )
    count, accepted, found = compare(words)
    assert found == []
    assert count > 15_000 and accepted > 1_000


@pytest.mark.slow
def test_the_whole_space(compare, record_property):
    words = itertools.chain(
        second.structured(0, places=32), second.exceptions_and_branches(), second.random_words(0, 80_000)
    )
    count, accepted, found = compare(words)
    record_property("encodings", count)
    record_property("accepted", accepted)
    assert found == []
    assert count > 200_000 and accepted > 30_000


@pytest.mark.slow
def test_every_system_instruction(compare):
    count, _, found = compare(second.system_space())
    assert found == []
    assert count == 1 << 18


@pytest.mark.slow
def test_exception_levels_are_those_that_names_say(require_tool):
    require_tool("llvm-mc", "llvm")
    words = [word for word in second.system_space() if word & 31 == 5]
    named = [(word, text) for word, text in zip(words, second.llvm(words), strict=True) if text]
    assert [wrong for word, text in named if (wrong := second.levels(word, text))] == []
    assert sum(second.level_of(text) is not None for _, text in named) > 700


TRAPS = {
    "dsb synxs": 0xD5033E3F,
    "sb": 0xD50330FF,
    "ldapr x0, [x1]": 0xF8BFC020,
    "ldadd x0, x1, [x2]": 0xF8200041,
    "ldapur x0, [x1]": 0xD9400020,
    "a reserved bitmask": 0x32037C03,
    "bc.eq": 0x54000010,
    "ldp x0, x0, [x1]": 0xA9400020,
    "crc32cx": 0x9AC25C20,
    "tlbi vmalle1os": 0xD508811F,
}


@pytest.mark.parametrize("text", TRAPS)
def test_without_the_guard_the_second_decoder_disagrees(compare, monkeypatch, text):
    word = TRAPS[text]
    assert compare([word]) == (1, 0, [])
    decode_all(monkeypatch)
    count, accepted, found = compare([word])
    assert (count, accepted, len(found)) == (1, 1, 1)


def decode_all(monkeypatch):
    """Take both guards out of the decoder."""
    for guard in ("illegal", "refused"):
        monkeypatch.setattr(lift, guard, lambda word: None)
    monkeypatch.setattr(second, "illegal", lambda word: None)
