"""Pairs of changes: what each kind does, and that a sample is the same for the same seed."""

import struct

import pytest
from kexec_verify.mutate.pairs import KINDS, NOP, of_kind, pairs, sample, sample_pairs

ISB = 0xD503_3FDF
WORDS = (0x9100_0400, 0x9100_0821, ISB, 0x9100_0C42, 0x9100_1063, 0x9100_1484, 0x9100_18A5)
CODE = struct.pack("<7I", *WORDS)


def words(code: bytes) -> tuple[int, ...]:
    return struct.unpack("<7I", code)


def test_instructions_near_each_other_are_exchanged():
    found = {words(code) for _, code in of_kind("near", CODE)}
    a, b, c, d, e, f, g = WORDS
    assert (c, b, a, d, e, f, g) in found
    assert (a, b, g, d, e, f, c) in found
    assert all(sorted(each) == sorted(WORDS) for each in found)


def test_two_pairs_of_neighbours_are_exchanged():
    found = {words(code) for _, code in of_kind("twice", CODE)}
    a, b, c, d, e, f, g = WORDS
    assert (b, a, d, c, e, f, g) in found
    assert (b, c, a, d, e, f, g) in found


def test_barrier_is_moved_alone_and_with_a_nop():
    found = {words(code) for _, code in of_kind("barrier", CODE)}
    a, b, c, d, e, f, g = WORDS
    assert (a, c, b, d, e, f, g) in found
    assert (a, b, d, c, e, f, g) in found
    assert (a, b, NOP, c, e, f, g) in found
    assert all(ISB in each or NOP in each for each in found)


def test_nop_is_beside_a_flipped_bit():
    for _, code in of_kind("nop and bit", CODE):
        changed = [i for i, (old, new) in enumerate(zip(WORDS, words(code), strict=True)) if old != new]
        assert len(changed) == 2
        assert changed[1] - changed[0] == 1
        assert NOP in (words(code)[i] for i in changed)


@pytest.mark.parametrize("kind", KINDS)
def test_slots_that_are_not_asked_for_are_kept(kind):
    slots = [4 * i for i in (0, 1, 2, 4, 5)]
    found = list(of_kind(kind, CODE, slots))
    assert found
    assert all((words(code)[3], words(code)[6]) == (WORDS[3], WORDS[6]) for _, code in found)


def test_no_pair_is_the_code_itself():
    assert all(code != CODE for _, code in pairs(CODE))


def test_same_seed_takes_the_same_ones():
    every = list(pairs(CODE))
    assert sample(every, 20, 1) == sample(every, 20, 1)
    assert sample(every, 20, 1) != sample(every, 20, 2)
    assert len(sample(every, 20, 1)) == 20
    assert sample(every, len(every) + 1, 1) == every


def test_kinds_share_a_sample():
    chosen = sample_pairs(CODE, None, 40, 1)
    assert len(chosen) == 40
    for kind in KINDS:
        assert sum(each in set(of_kind(kind, CODE)) for each in chosen) >= 10
